"""KServe V1 and TensorFlow Serving's REST API, over the service in this process."""

import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.pictures import constant, decoded, encoded, noise
from tests.protocol_bodies import b64, instances

BRIGHT, DARK = encoded(constant(255)), encoded(constant(10))
PREDICT, EXPLAIN = "/v1/models/double:predict", "/v1/models/double:explain"


def without_id(answer):
    return answer | {"id": ""}


def test_each_prediction_is_the_answer_of_predict(client):
    """In the order of the instances; keys that clients add are ignored."""
    answer = client.post(PREDICT, json=instances(BRIGHT, DARK, model_name="double", unknown=[1]))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = [without_id(client.post("/predict", content=image).json()) for image in (BRIGHT, DARK)]
    assert [without_id(each) for each in answer.json()["predictions"]] == expected
    assert answer.json().keys() == {"predictions"}


def test_each_explanation_is_that_of_explain(client):
    """With its receipt; the parameters mean the same, and the predictions are beside."""
    parameters = {"class": "dark", "alpha": 0.2, "format": "webp", "counterfactual": True, "top": 2}
    answer = client.post(EXPLAIN, json=instances(BRIGHT, DARK, parameters=parameters)).json()
    for index, image in enumerate((BRIGHT, DARK)):
        expected = client.post("/explain", content=image, params=parameters).json()
        predicted = client.post("/predict", content=image, params={"top": 2}).json()
        beside = {name: expected.pop(name) for name in expected.keys() - predicted.keys()}
        assert answer["explanations"][index] == beside.pop("explanation") | beside
        assert beside.keys() >= {"receipt"}
        assert without_id(answer["predictions"][index]) == without_id(expected)


def test_explain_without_the_picture(client):
    """`overlay` is a parameter like any other."""
    answer = client.post(EXPLAIN, json=instances(BRIGHT, parameters={"overlay": False})).json()
    assert answer["explanations"][0]["overlay"] is None


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
FORMS = {
    "b64": {"b64": b64(BRIGHT)},
    "named b64": {"image": {"b64": b64(BRIGHT)}},
    "KServe's flowers": {"image_bytes": {"b64": b64(BRIGHT)}, "key": "   1"},
    "KServe's digits": {"data": b64(BRIGHT), "target": 0},
    "text": b64(BRIGHT),
    "Lightbox's own": {"image": b64(BRIGHT)},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_instance_may_have_its_image_in_the_ways_that_clients_send_it(client, form):
    """KServe's published examples among them."""
    answer = client.post(PREDICT, json={"instances": [FORMS[form]]})
    assert answer.json()["predictions"][0]["label"] == "bright"


@pytest.mark.parametrize("instance", [PIXELS.tolist(), {"images": PIXELS.tolist()}])
def test_an_instance_may_be_the_input_of_the_network(client, instance):
    """As TensorFlow Serving takes it for the signature of the artefact."""
    body = {"signature_name": "serving_default", "instances": [instance]}
    answer = client.post(PREDICT, json=body).json()["predictions"][0]
    assert answer["label"] == "middle"
    assert answer["image"] == {"width": 8, "height": 8, "format": "raw"}


@pytest.mark.parametrize(
    "inputs",
    [{"image": [{"b64": b64(BRIGHT)}]}, {"image": {"b64": b64(BRIGHT)}}, [{"b64": b64(BRIGHT)}], {"b64": b64(BRIGHT)}],
)
def test_columns_are_answered_in_columns(client, inputs):
    """TensorFlow Serving's other form, with the outputs that the metadata names."""
    outputs = client.post(PREDICT, json={"inputs": inputs}).json()["outputs"]
    assert outputs == {"label": ["bright"], "probabilities": [pytest.approx([0.1, 0.1, 0.8])], "novelty": [0.0]}
    described = client.get("/v1/models/double/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert described["serving_default"]["outputs"].keys() == outputs.keys()


def test_columns_of_pixels_are_explained(client):
    """The heatmap nested, the picture as TensorFlow Serving encodes binary values."""
    body = {"inputs": {"images": [PIXELS.tolist(), PIXELS.tolist()]}, "parameters": {"alpha": 0, "class": "bright"}}
    outputs = client.post(EXPLAIN, json=body).json()["outputs"]
    assert np.array(outputs["heatmap"]).shape == (2, 8, 8)
    assert (decoded(base64.b64decode(outputs["overlay"][1]["b64"])) == PIXELS).all()


def test_the_state_of_a_model(client):
    """KServe reads `ready`, TensorFlow Serving's clients the states of the versions."""
    answer = client.get("/v1/models/double").json()
    status = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert answer == {"name": "double", "ready": True, "model_version_status": [status]}
    assert client.get("/v1/models/double/versions/3").json() == answer
    assert "double" in client.get("/v1/models").json()["models"]


def test_a_version_can_be_named(client):
    """Its answer is that of the served one, as it is the same."""
    answer = client.post("/v1/models/double/versions/3:predict", json=instances(BRIGHT))
    assert answer.json()["predictions"][0]["model"] == {"name": "double", "version": 3}
    assert client.post("/v1/models/double/versions/3:explain", json=instances(BRIGHT)).status_code == 200


MALFORMED = {
    "no JSON": (b"{", 400, "JSON"),
    "no object": (b"[]", 400, "object"),
    "not UTF-8": (b'{"instances": "\xff"}', 400, "JSON"),
    "NaN": (b'{"instances": [NaN]}', 400, "NaN"),
    "a key twice": (b'{"instances": [], "instances": []}', 400, "repeats"),
    "deep": (b'{"instances":' + b"[" * 100_000, 400, "JSON"),
    "deep in an instance": (b'{"instances":' + b"[" * 500 + b"]" * 500 + b"}", 400, "ragged"),
    "many objects": (b'{"instances": [' + b"{}," * 5000 + b"{}]}", 400, "1000 objects"),
    "many arrays": (b'{"instances": [' + b"[]," * 2_000_000 + b"[]]}", 400, "2000000 arrays"),
    "neither": (b"{}", 400, "instances"),
    "both": (b'{"instances": [], "inputs": []}', 400, "instances"),
    "none": (b'{"instances": []}', 400, "no image"),
    "no array": (b'{"instances": 7}', 400, "array"),
    "a number": (b'{"instances": [7]}', 400, "b64"),
    "null": (b'{"instances": [null]}', 400, "b64"),
    "a number as base64": (b'{"instances": [{"b64": 7}]}', 400, "b64"),
    "a surrogate": (b'{"instances": [{"b64": "\\ud800"}]}', 400, "base64"),
    "not base64": (b'{"instances": [{"b64": "!"}]}', 400, "base64"),
    "no image": (b'{"instances": [{"b64": "aGVsbG8="}]}', 415, "PNG"),
    "two images in an instance": (b'{"instances": [{"image": "", "data": ""}]}', 400, "several"),
    "ragged pixels": (b'{"instances": [[[[1, 2, 3]], [[1, 2]]]]}', 400, "ragged"),
    "mixed pixels": (b'{"instances": [[[[1, 2, 3]], 1]]}', 400, "ragged"),
    "fractions": (b'{"instances": [[[[1.5, 2, 3]]]]}', 400, "0..255"),
    "texts as pixels": (b'{"instances": [[[["1", "2"]]]]}', 400, "0..255"),
    "too large a pixel": (b'{"instances": [[[[256, 2, 3]]]]}', 400, "0..255"),
    "a huge number": (b'{"instances": [[[[' + b"9" * 5000 + b"]]]]}", 400, "JSON"),
    "pixels of another shape": (b'{"instances": [[[[1, 2, 3]]]]}', 422, "[8, 8, 3]"),
    "an unknown column": (b'{"inputs": {"film": []}}', 422, "column"),
    "an unknown signature": (b'{"instances": [], "signature_name": "classify"}', 422, "serving_default"),
    "parameters that are no object": (b'{"instances": ["aGVsbG8="], "parameters": 7}', 400, "object"),
}


@pytest.mark.parametrize("row", MALFORMED)
@pytest.mark.parametrize("path", [PREDICT, EXPLAIN])
def test_malformed_bodies(client, path, row):
    """Each is the client's own error, in the form that its client shows."""
    body, status, reason = MALFORMED[row]
    answer = client.post(path, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json().keys() == {"error"}
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"clas": "bright"}, "unknown parameter 'clas'"),
        ({"class": "nobody"}, "unknown class 'nobody'; valid: dark, middle, bright"),
        ({"model": "other"}, "more than once"),
        ({"alpha": 7}, "alpha"),
        ({"method": "magic"}, "gradcam"),
        ({"sequence_id": 7}, "does not support"),
    ],
)
def test_parameters_are_validated_as_those_of_explain(client, parameters, reason):
    """A misspelt one would change the question; no image is to blame for them."""
    answer = client.post(EXPLAIN, json=instances(BRIGHT, DARK, parameters=parameters))
    assert answer.status_code in (400, 422)
    assert reason in answer.json()["error"]
    assert "image 0" not in answer.json()["error"]


def test_parameters_may_be_in_the_query(client):
    """Or they would be ignored silently."""
    answer = client.post(f"{EXPLAIN}?class=dark", json=instances(BRIGHT)).json()
    assert answer["explanations"][0]["class"] == "dark"
    assert client.post(f"{EXPLAIN}?clas=dark", json=instances(BRIGHT)).status_code == 422


@pytest.mark.parametrize("bad", [b"hello", encoded(noise(40, 60))[:200]], ids=["no image", "truncated"])
def test_one_bad_image_is_the_error_of_the_request(client, bad):
    """Which names it, whether it is noticed before the queue or while it is decoded."""
    answer = client.post(PREDICT, json=instances(BRIGHT, DARK, bad, BRIGHT))
    assert answer.status_code in (415, 422)
    assert answer.json()["error"].startswith("image 2: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/nobody:predict", 404),
        ("POST", "/v1/models/double/versions/9:predict", 404),
        ("POST", "/v1/models/double/versions/x:predict", 404),
        ("POST", "/v1/models/double/versions/99999999999999999999999:predict", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/double/versions/0", 404),
        ("GET", "/v1/models/nobody/metadata", 404),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/models/double:classify", 400),
        ("POST", "/v1/models/double:regress", 400),
        ("GET", "/v1/models/double/labels/stable", 400),
    ],
)
def test_what_there_is_not(client, method, path, status):
    """Clients read `error`, which says what there is instead."""
    answer = client.request(method, path, json=instances(BRIGHT))
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["error"]


def test_limits_hold():
    """Of the body, of its decompressed form, and of the number of images."""
    settings = Settings(max_upload_bytes=3000, max_images=2)
    with TestClient(create_app(settings, BrightnessRuntime())) as client:
        small = encoded(constant(255, 2, 2))
        assert client.post(PREDICT, json=instances(small, small)).status_code == 200
        many = client.post(PREDICT, json=instances(small, small, small))
        assert (many.status_code, many.json()["error"]) == (413, "the request contains 3 images; the limit is 2")
        large = client.post(PREDICT, json=instances(bytes(4000)))
        assert (large.status_code, large.headers["content-type"]) == (413, "application/json")
        assert "3000 bytes" in large.json()["error"]
        unknown = client.post(PREDICT, content=b"x", headers={"content-encoding": "br"})
        assert (unknown.status_code, unknown.headers["accept-encoding"]) == (415, "gzip, deflate")


def test_requests_are_counted_by_protocol(client):
    """And under the template of their route."""
    client.post(PREDICT, json=instances(BRIGHT))
    labels = 'method="POST",protocol="v1",route="/v1/models/{name}:predict",status="200"'
    assert f"lightbox_requests_total{{{labels}}} 1.0" in client.get("/metrics").text


def test_a_large_body_of_pixels_is_read(client):
    """As many nested lists as a batch of real images needs."""
    body = json.dumps({"instances": [noise(300, 300, 3).tolist()] * 4})
    answer = client.post(PREDICT, content=body)
    assert answer.status_code == 422
    assert "image 0: the pixels have the shape [300, 300, 3]" in answer.json()["error"]
