"""The Open Inference Protocol (V2) over HTTP, over the service in this process."""

import gzip
import json
import threading

import anyio
import httpx
import numpy as np
import pytest
import tensorflow as tf
from starlette.testclient import TestClient

from app.artifact.manifest import NoveltySpec
from app.main import create_app
from app.settings import Settings
from tests import models
from tests.doubles import BrightnessRuntime, BrokenRuntime, GatedRuntime, manifest
from tests.pictures import constant, decoded, encoded, noise
from tests.protocol_bodies import HEADER, b64, binary, instances, json_tensor, outputs_of, raw_bytes

BRIGHT, DARK = encoded(constant(255)), encoded(constant(10))
INFER, EXPLAIN = "/v2/models/double/infer", "/v2/models/double:explain/infer"
PIXELS = noise(8, 8, 3)


def test_the_server_describes_itself(client):
    """With the extension that it supports."""
    described = client.get("/v2").json()
    assert described["name"] == "lightbox"
    assert described["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_there_are_two_models_for_each(client):
    """One predicts, one explains; each advertises its own outputs."""
    predicts, explains = (client.get(f"/v2/models/{name}").json() for name in ("double", "double:explain"))
    assert predicts["versions"] == explains["versions"] == ["3"]
    assert predicts["platform"] == "tensorflow_savedmodel"
    assert predicts["inputs"] == explains["inputs"]
    assert predicts["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]},
    ]
    assert predicts["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "novelty", "datatype": "FP32", "shape": [-1]},
    ]
    assert explains["outputs"][3:] == [
        {"name": "heatmap", "datatype": "FP32", "shape": [-1, 8, 8]},
        {"name": "overlay", "datatype": "BYTES", "shape": [-1]},
    ]
    for name in ("double", "double:explain", "double:explain/versions/3"):
        assert client.get(f"/v2/models/{name}/ready").json()["ready"] is True


def test_without_a_list_of_outputs_all_come(client):
    """In the form that the metadata describes; the id is repeated, and the version is a string."""
    for path in (INFER, EXPLAIN):
        answer = client.post(path, json={"id": "42", "inputs": [json_tensor(BRIGHT, DARK)]})
        body = answer.json()
        assert (body["id"], body["model_version"]) == ("42", "3")
        assert body["model_name"] == path.split("/")[3]
        described = client.get(path.removesuffix("/infer")).json()["outputs"]
        assert [output["name"] for output in body["outputs"]] == [output["name"] for output in described]
        for output, expected in zip(body["outputs"], described, strict=True):
            assert output["datatype"] == expected["datatype"]
            assert output["shape"] == [2, *expected["shape"][1:]]


@pytest.mark.parametrize("form", ["json", "binary"])
def test_the_answer_is_that_of_explain(client, form):
    """For several images at once; pictures, numbers and texts in both forms."""
    parameters = {"class": "dark", "method": "hirescam", "format": "jpeg"}
    if form == "json":
        answer = client.post(EXPLAIN, json={"inputs": [json_tensor(BRIGHT, DARK)], "parameters": parameters})
        assert HEADER not in answer.headers
    else:
        parameters["binary_data_output"] = True
        sent = binary(raw_bytes(BRIGHT, DARK), "image", "BYTES", [2], parameters=parameters)
        answer = client.post(EXPLAIN, **sent)
        assert answer.headers["content-type"] == "application/octet-stream"
        parameters.pop("binary_data_output")
    found = outputs_of(answer)
    for index, image in enumerate((BRIGHT, DARK)):
        expected = client.post("/explain", content=image, params=parameters).json()
        assert found["label"][index].decode() == expected["label"]
        assert found["probabilities"][index].tolist() == list(expected["probabilities"].values())
        assert (found["heatmap"][index] == np.array(expected["explanation"]["heatmap"]["values"], np.float32)).all()
        assert b64(found["overlay"][index]) == expected["explanation"]["overlay"]["data"]


def test_each_output_may_choose_its_form(client):
    """Against the form of the request; and outputs come in the order in which they are asked for."""
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    answer = client.post(INFER, json={"inputs": [json_tensor(BRIGHT)], "outputs": outputs})
    assert list(outputs_of(answer)) == ["probabilities", "label"]
    head = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert head["outputs"][1]["data"] == ["bright"]
    outputs[0]["parameters"]["binary_data"] = False
    body = {"inputs": [json_tensor(BRIGHT)], "outputs": outputs[:1], "parameters": {"binary_data_output": True}}
    assert HEADER not in client.post(INFER, json=body).headers


@pytest.mark.parametrize("build", [models.batch_norm_dropout, models.grey])
def test_pixels_give_what_the_savedmodel_gives(entry_of, build):
    """In each form; TensorFlow itself says what that is, up to the last bits, in which two loads may differ."""
    entry = entry_of(build)
    loaded = tf.saved_model.load(str(entry))  # its signatures live only as long as it does
    signature = loaded.signatures["serving_default"]
    shape = signature.structured_input_signature[1]["images"].shape[1:]
    pixels = np.random.default_rng(1).integers(0, 256, (3, *shape), np.uint8)
    expected = {name: value.numpy() for name, value in signature(images=tf.constant(pixels)).items()}
    settings = Settings(model_store=entry.parent.parent, model=entry.parent.name)
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape)}
    with TestClient(create_app(settings)) as client:
        path = f"/v2/models/{entry.parent.name}/infer"
        for request in (
            binary(pixels.tobytes(), "images", "UINT8", list(pixels.shape)),
            {"json": {"inputs": [tensor | {"data": pixels.tolist()}]}},
            {"json": {"inputs": [tensor | {"data": pixels.ravel().tolist()}]}},
        ):
            found = outputs_of(client.post(path, **request))
            assert np.allclose(found["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-7)
            assert np.allclose(found["novelty"], expected["novelty"], rtol=1e-5, atol=1e-7)
        metrics = client.get("/metrics").text
    assert 'lightbox_batch_size_bucket{le="2.0"} 0.0' in metrics
    assert "lightbox_batch_size_count 3.0" in metrics


def test_pixels_are_explained_on_themselves(client):
    """Without opacity, the overlay is the input of the network."""
    sent = binary(PIXELS.tobytes(), "images", "UINT8", [1, 8, 8, 3], parameters={"alpha": 0})
    found = outputs_of(client.post(EXPLAIN, **sent))
    assert (decoded(found["overlay"][0]) == PIXELS).all()


def test_novelty_is_the_models_own():
    """Zero where the model has none, as from the SavedModel."""
    for novelty, expected in ((NoveltySpec(method="brightness", threshold=0.5), 1.0), (None, 0.0)):
        with TestClient(create_app(Settings(), BrightnessRuntime(manifest(novelty=novelty)))) as client:
            found = outputs_of(client.post(INFER, json={"inputs": [json_tensor(BRIGHT)]}))
        assert found["novelty"].tolist() == [expected]


def test_an_overlay_is_drawn_only_where_it_is_wanted(client):
    """By the list of outputs, or by the parameter of `/explain`."""
    body = {"inputs": [json_tensor(BRIGHT)], "parameters": {"overlay": False}}
    assert "overlay" not in outputs_of(client.post(EXPLAIN, json=body))
    refused = client.post(EXPLAIN, json=body | {"outputs": [{"name": "overlay"}]})
    assert refused.status_code == 422
    assert "heatmap" in refused.json()["error"]


def test_a_compressed_body_has_its_lengths_inside(client):
    """The header counts the bytes of the JSON before compression, as tritonclient sends it."""
    sent = binary(raw_bytes(BRIGHT), "image", "BYTES", [1])
    sent["content"] = gzip.compress(sent["content"])
    sent["headers"]["content-encoding"] = "gzip"
    assert outputs_of(client.post(INFER, **sent))["label"] == [b"bright"]


def test_shapes_as_clients_give_them(client):
    """A column, and KServe's published example, whose shape is that of the metadata."""
    for shape in ([1, 1], [-1]):
        body = {"inputs": [json_tensor(BRIGHT) | {"shape": shape}]}
        assert outputs_of(client.post(INFER, json=body))["label"] == [b"bright"]


def test_mlservers_content_type_is_no_parameter_of_ours(client):
    """Its published examples have it at the request and at the input."""
    tensor = json_tensor(BRIGHT) | {"parameters": {"content_type": "base64"}}
    body = {"parameters": {"content_type": "str", "headers": {}}, "inputs": [tensor]}
    assert outputs_of(client.post(INFER, json=body))["label"] == [b"bright"]


PUBLISHED = {
    "the specification's example": {
        "id": "42",
        "inputs": [
            {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
            {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
        ],
        "outputs": [{"name": "output0"}],
    },
    "MLServer's scikit-learn example": {
        "inputs": [{"name": "predict", "shape": [1, 4], "datatype": "FP32", "data": [[0.0, 0.0, 1.0, 11.0]]}]
    },
    "MLServer's data frame": {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {
                "name": "First Name",
                "datatype": "BYTES",
                "parameters": {"content_type": "str"},
                "shape": [2],
                "data": ["Joanne", "Michael"],
            },
            {"name": "Age", "datatype": "INT32", "shape": [2], "data": [34, 22]},
        ],
    },
    "KServe's iris": {
        "inputs": [
            {
                "name": "input-0",
                "shape": [2, 4],
                "datatype": "FP32",
                "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]],
            }
        ]
    },
}


@pytest.mark.parametrize("example", PUBLISHED)
def test_published_requests_for_other_models_are_refused_with_a_reason(client, example):
    """They are well-formed, so the reason is what this model takes."""
    answer = client.post(INFER, json=PUBLISHED[example])
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert any(word in answer.json()["error"] for word in ("BYTES", "UINT8"))


def tensor(**changes):
    return {"inputs": [json_tensor(BRIGHT) | changes]}


def head(**changes):
    """JSON for binary data that follows it."""
    described = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}
    return json.dumps({"inputs": [described | changes]}).encode()


def sized(rest, length=None, **changes):
    start = head(**changes)
    return {"content": start + rest, "headers": {HEADER: str(len(start)) if length is None else length}}


PIXEL = {"name": "images", "datatype": "UINT8"}
MALFORMED = {
    "no JSON": ({"content": b"\x00"}, "JSON"),
    "no body": ({"content": b""}, "JSON"),
    "infinity": ({"content": b'{"inputs": [{"shape": [Infinity]}]}'}, "Infinity"),
    "no inputs": ({"json": {}}, "none"),
    "inputs that are no array": ({"json": {"inputs": {}}}, "array"),
    "inputs that are no objects": ({"json": {"inputs": [1]}}, "objects"),
    "many inputs": ({"json": {"inputs": [{}] * 17}}, "16"),
    "two inputs": ({"json": {"inputs": [json_tensor(BRIGHT), json_tensor(BRIGHT)]}}, "either"),
    "an unknown input": ({"json": tensor(name="film")}, "'image'"),
    "an id that is no text": ({"json": tensor() | {"id": 7}}, "string"),
    "a name that is no text": ({"json": tensor(name=7)}, "string"),
    "an unknown datatype": ({"json": tensor(datatype="FP99")}, "BYTES"),
    "the datatype of the other": ({"json": tensor(datatype="UINT8", data=[1])}, "expected BYTES"),
    "no shape": ({"json": tensor(shape=None)}, "shape"),
    "a negative size": ({"json": tensor(shape=[-2])}, "shape"),
    "a size that is true": ({"json": tensor(shape=[True])}, "shape"),
    "a huge size": ({"json": tensor(shape=[2**40])}, "shape"),
    "a shape of thousands": ({"json": tensor(shape=[1] * 1000)}, "shape"),
    "another count": ({"json": tensor(shape=[2])}, "needs 2"),
    "a deep shape": ({"json": tensor(shape=[1, 1, 1])}, "[B]"),
    "data that is no array": ({"json": tensor(data="x")}, "array"),
    "an element that is no text": ({"json": tensor(data=[1])}, "base64"),
    "no data": ({"json": tensor(data=None)}, "elements"),
    "no images at all": ({"json": tensor(shape=[0], data=[])}, "no image"),
    "no pixels": ({"json": {"inputs": [PIXEL | {"shape": [2_000_000_000, 0, 8, 3], "data": []}]}}, "no pixels"),
    "pixels without a batch": (
        {"json": {"inputs": [PIXEL | {"shape": [8, 8, 3], "data": PIXELS.tolist()}]}},
        "[B, H, W, C]",
    ),
    "negative pixels": ({"json": {"inputs": [PIXEL | {"shape": [1, 1, 1, 1], "data": [-1]}]}}, "0..255"),
    "outputs that are no objects": ({"json": tensor() | {"outputs": ["label"]}}, "objects"),
    "binary_data that is no truth": (
        {"json": tensor() | {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}},
        "true or false",
    ),
    "shared memory": ({"json": tensor(parameters={"shared_memory_region": "r"})}, "does not support"),
    "classification": (
        {"json": tensor() | {"outputs": [{"name": "label", "parameters": {"classification": 3}}]}},
        "does not support",
    ),
    "a sequence": ({"json": tensor() | {"parameters": {"sequence_id": 1}}}, "does not support"),
    "a negative header length": (sized(raw_bytes(b"1234"), "-1"), HEADER),
    "a header length that is no number": (sized(raw_bytes(b"1234"), "many"), HEADER),
    "a header length of nothing": (sized(raw_bytes(b"1234"), "0"), HEADER),
    "a header length beyond the body": (sized(raw_bytes(b"1234"), "100000"), HEADER),
    "an endless header length": (sized(raw_bytes(b"1234"), "9" * 5000), HEADER),
    "a header length within the JSON": (sized(raw_bytes(b"1234"), "10"), "JSON"),
    "a size beyond the body": (sized(b"1234"), "8 bytes"),
    "a size of less than nothing": (sized(b"1234", parameters={"binary_data_size": -4}), "binary"),
    "binary data of true bytes": (sized(b"1", parameters={"binary_data_size": True}), "whole number"),
    "bytes that belong to no input": (sized(raw_bytes(b"1234") + b"x"), "1 bytes after the JSON"),
    "an element beyond its data": (sized(b"\xff\xff\xff\xff1234"), "longer"),
    "half a length": (sized(b"12", parameters={"binary_data_size": 2}), "length"),
    "more elements than the shape": (sized(raw_bytes(b"", b"")), "more elements"),
    "fewer elements than the shape": (sized(raw_bytes(b"1234"), shape=[2]), "needs 2"),
    "fewer pixels than the shape": (sized(bytes(8), **PIXEL, shape=[1, 8, 8, 3]), "needs 192"),
    "binary data of another datatype": (sized(bytes(8), datatype="FP32"), "UINT8"),
}


@pytest.mark.parametrize("row", MALFORMED)
@pytest.mark.parametrize("path", [INFER, EXPLAIN])
def test_malformed_requests(client, path, row):
    """Each is the client's own error, in the form that its client shows."""
    request, reason = MALFORMED[row]
    answer = client.post(path, **request)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json"), answer.text
    assert answer.json().keys() == {"error"}
    assert reason in answer.json()["error"]


REFUSED = {
    "an unknown output": ({"outputs": [{"name": "logits"}]}, 422, "valid: label, probabilities, novelty"),
    "an output twice": ({"outputs": [{"name": "label"}, {"name": "label"}]}, 422, "more than once"),
    "an unknown parameter": ({"parameters": {"clas": "dark"}}, 422, "unknown parameter"),
    "a result that no output carries": ({"parameters": {"top": 2}}, 400, "no output"),
    "the image of a frame": ({"parameters": {"frame": 0}}, 422, "frame"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused_requests(client, row):
    """They are well-formed, and can't be answered."""
    beside, status, reason = REFUSED[row]
    answer = client.post(INFER, json={"inputs": [json_tensor(BRIGHT)], **beside})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert reason in answer.json()["error"]


@pytest.mark.parametrize("parameter", ["all_classes", "faithfulness"])
def test_what_no_tensor_carries_is_refused(client, parameter):
    """Instead of being computed for nothing."""
    answer = client.post(EXPLAIN, json={"inputs": [json_tensor(BRIGHT)], "parameters": {parameter: True}})
    assert answer.status_code == 400
    assert "/explain" in answer.json()["error"]


@pytest.mark.parametrize("form", ["json", "binary"])
@pytest.mark.parametrize("bad", [b"hello", encoded(noise(40, 60))[:200]], ids=["no image", "truncated"])
def test_one_bad_image_is_the_error_of_the_request(client, form, bad):
    """Which names it."""
    images = (BRIGHT, bad, DARK)
    sent = (
        {"json": {"inputs": [json_tensor(*images)]}}
        if form == "json"
        else binary(raw_bytes(*images), "image", "BYTES", [3])
    )
    answer = client.post(INFER, **sent)
    assert answer.status_code in (415, 422)
    assert answer.json()["error"].startswith("image 1: ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/double/versions/9/infer", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody:explain/ready", 404),
        ("GET", "/v2/models/double/versions/x/ready", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/repository/index", 400),
        ("POST", "/v2/repository/models/double/load", 400),
        ("GET", "/v2/systemsharedmemory/status", 400),
        ("POST", "/v2/cudasharedmemory/region/r/register", 400),
        ("GET", "/v2/models/double/config", 400),
        ("GET", "/v2/models/double/versions/3/stats", 400),
        ("POST", "/v2/models/double/generate_stream", 400),
        ("POST", "/v2/logging", 400),
    ],
)
def test_what_there_is_not(client, method, path, status):
    """Clients read `error`, which says what there is instead."""
    answer = client.request(method, path, json={"inputs": [json_tensor(BRIGHT)]})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.json()["error"]


def test_keys_are_required_except_for_health():
    """Readiness of a model is health as well; errors without a key have the form that clients read."""
    with TestClient(create_app(Settings(api_keys="secret"), BrightnessRuntime())) as client:
        for path in ("/", "/v2/health/live", "/v2/health/ready", "/v2/models/double/ready", "/v1/models/double"):
            assert client.get(path).status_code == 200
        body = {"inputs": [json_tensor(BRIGHT)]}
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/models/double"),
            ("POST", INFER),
            ("POST", EXPLAIN),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/double/metadata"),
            ("POST", "/v1/models/double:predict"),
            ("POST", "/v2/repository/index"),
        ):
            refused = client.request(method, path, json=body)
            assert (refused.status_code, refused.headers["content-type"]) == (401, "application/json")
            assert "Authorization" in refused.json()["error"]
        assert client.post(INFER, json=body, headers={"authorization": "Bearer secret"}).status_code == 200


def test_a_model_that_is_not_loaded_is_not_ready(tmp_path):
    """503, with the time to wait; liveness does not depend on it."""
    refusals = []
    with TestClient(create_app(Settings(model_store=tmp_path), on_refusal=refusals.append)) as client:
        for path in ("/v2/health/ready", "/v2/models/cxr-vgg16/ready", "/v1/models/cxr-vgg16"):
            assert client.get(path).status_code in (404, 503)
            assert client.get(path).headers["content-type"] == "application/json"
        assert client.get("/v2/health/ready").headers["retry-after"] == "1"
        assert client.get("/v2/health/live").status_code == 200


def test_a_model_of_the_store_is_ready_before_its_first_request(served_entry):
    """Because that loads it; TensorFlow Serving's clients see which version is in memory."""
    settings = Settings(model_store=served_entry.parent.parent, model="tiny")
    with TestClient(create_app(settings)) as client:
        assert client.get("/v2/models/planted/ready").status_code == 200
        states = client.get("/v1/models/tiny").json()["model_version_status"]
        assert [(each["version"], each["state"]) for each in states] == [("2", "AVAILABLE"), ("1", "START")]
        assert client.post("/v1/models/tiny/versions/1:predict", json=instances(BRIGHT)).status_code == 200
        states = client.get("/v1/models/tiny/versions/1").json()["model_version_status"]
        assert [(each["version"], each["state"]) for each in states] == [("1", "AVAILABLE")]


def test_deadlines_and_failures_have_the_form_that_clients_read(caplog):
    """504 where the model takes too long, 500 without a trace where something broke."""
    runtime = GatedRuntime()
    body = {"inputs": [json_tensor(BRIGHT, DARK)]}
    with TestClient(create_app(Settings(request_timeout_s=0.2), runtime)) as client:
        late = client.post(INFER, json=body)
        runtime.gate.set()
    assert (late.status_code, late.headers["content-type"]) == (504, "application/json")
    with TestClient(create_app(Settings(), BrokenRuntime())) as client:
        broken = client.post(INFER, json=body)
    assert (broken.status_code, broken.headers["content-type"]) == (500, "application/json")
    assert "secret" not in broken.text
    assert "secret detail" in caplog.text


def test_several_images_hold_one_slot():
    """So a request can't wait for itself; one beyond the limit is told when to come back."""
    runtime = GatedRuntime()
    app = create_app(Settings(max_concurrent_requests=1), runtime)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
            anyio.create_task_group() as group,
        ):
            answers = []

            async def several():
                answers.append(await client.post(INFER, json={"inputs": [json_tensor(*[BRIGHT] * 20)]}))

            group.start_soon(several)
            await anyio.to_thread.run_sync(lambda: runtime.entered.wait(30))
            refused = await client.post(INFER, json={"inputs": [json_tensor(BRIGHT)]})
            runtime.gate.set()
        return refused, answers[0]

    refused, answered = anyio.run(ask)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]
    assert outputs_of(answered)["label"] == [b"bright"] * 20


def test_requests_are_counted_by_protocol(client):
    """Unmatched ones as well."""
    client.post(INFER, json={"inputs": [json_tensor(BRIGHT)]})
    client.get("/v2/nothing")
    metrics = client.get("/metrics").text
    assert (
        'lightbox_requests_total{method="POST",protocol="v2",route="/v2/models/{name}/infer",status="200"} 1.0'
        in metrics
    )
    assert 'lightbox_requests_total{method="GET",protocol="v2",route="unmatched",status="404"} 1.0' in metrics


def test_behind_a_prefix_errors_keep_their_form():
    """Whether the proxy strips it or not."""
    with TestClient(create_app(Settings(root_path="/lightbox"), BrightnessRuntime())) as client:
        for path in ("/v2/models/nobody", "/lightbox/v2/models/nobody", "/lightbox/v1/models/nobody"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


def test_lightboxs_own_routes_keep_their_problems(client):
    """Also those whose path merely begins alike."""
    assert client.get("/v2x").headers["content-type"] == "application/problem+json"


def test_the_images_of_one_request_are_one_batch():
    """However long they take to decode, and though there are fewer workers than images."""
    runtime = CountingRuntime()
    with TestClient(create_app(Settings(batch_window_ms=0), runtime)) as client:
        outputs_of(client.post(INFER, json={"inputs": [json_tensor(*[encoded(noise(500, 500))] * 8)]}))
    assert runtime.sizes == [8]


class CountingRuntime(BrightnessRuntime):
    """Keeps the size of each batch."""

    def __init__(self):
        super().__init__()
        self.sizes = []
        self.lock = threading.Lock()

    def predict(self, images):
        with self.lock:
            self.sizes.append(len(images))
        return super().predict(images)
