"""The HTTP contract: what goes in, what comes out."""

import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.artifact.manifest import NoveltySpec
from app.explain.cams import METHODS
from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime, manifest
from tests.pictures import constant, decoded, encoded, noise

FILM = encoded(noise(40, 60))
BRIGHT = encoded(constant(255))


def senders():
    return {
        "form": {"files": {"file": ("film.png", FILM, "image/png")}},
        "raw": {"content": FILM, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        "json": {"json": {"image": base64.b64encode(FILM).decode()}},
    }


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("way", senders())
def test_all_three_ways_to_send_an_image_are_equal(client, path, way):
    """Form field, raw bytes, JSON."""
    answer = client.post(path, **senders()[way])
    assert answer.status_code == 200
    reference = client.post(path, content=FILM)
    assert answer.json() | {"id": ""} == reference.json() | {"id": ""}


def test_predict_answers_the_contract(client):
    """Every field, and nothing beside."""
    answer = client.post("/predict", content=FILM, headers={"x-request-id": "abc-1"})
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert body.pop("probabilities").keys() == {"dark", "middle", "bright"}
    assert "Research use only" in body.pop("notice")
    assert body == {
        "id": "abc-1",
        "model": {"name": "double", "version": 3},
        "label": "middle",
        "probability": pytest.approx(0.8),
        "top_k": None,
        "novelty": None,
        "image": {"width": 60, "height": 40, "format": "PNG"},
        "warnings": [],
    }


def test_novelty_is_reported_where_the_model_has_it():
    """Score, threshold, and what follows."""
    runtime = BrightnessRuntime(manifest(novelty=NoveltySpec(method="brightness", threshold=0.5)))
    with TestClient(create_app(Settings(), runtime)) as client:
        novelty = client.post("/predict", content=BRIGHT).json()["novelty"]
    assert novelty == {"score": 1.0, "threshold": 0.5, "out_of_distribution": True}


def test_explain_answers_all_that_predict_does_and_the_explanation(client):
    """Heatmap, its maximum before normalising, and the picture."""
    predicted = client.post("/predict", content=BRIGHT).json()
    body = client.post("/explain", content=BRIGHT).json()
    explanation = body.pop("explanation")
    assert len(body.pop("receipt")["image_sha256"]) == 64
    assert body.pop("region") is None  # this model locates no organ
    assert body | {"id": ""} == predicted | {"id": ""}
    overlay = explanation.pop("overlay")
    assert decoded(base64.b64decode(overlay.pop("data"), validate=True)).shape == (40, 60, 3)
    assert overlay == {"media_type": "image/png", "width": 60, "height": 40}
    heatmap = explanation.pop("heatmap")
    assert np.array(heatmap["values"]).shape == (heatmap["height"], heatmap["width"]) == (8, 8)
    assert heatmap["raw_max"] == pytest.approx(1.0)
    assert explanation == {
        "method": "gradcam",
        "class": "bright",
        "against": None,
        "counterfactual": False,
        "layer": "blocks",
        "empty": False,
        "box": None,
        "all_classes": None,
        "faithfulness": None,
        "outline": None,
    }


@pytest.mark.parametrize("level", [0, 128, 255])
def test_images_without_evidence_are_answered(client, level):
    """All zeros, `empty`, JSON without NaN, a picture that can be read."""
    answer = client.post("/explain?class=middle", content=encoded(constant(level)))
    explanation = json.loads(answer.text, parse_constant=pytest.fail)["explanation"]
    assert explanation["empty"] is True
    assert explanation["heatmap"]["raw_max"] == 0
    assert not np.any(explanation["heatmap"]["values"])
    assert decoded(base64.b64decode(explanation["overlay"]["data"])).shape == (40, 60, 3)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_the_picture_itself_can_be_asked_for(client, name):
    """By Accept; label and probabilities are in the headers."""
    answer = client.post("/explain?class=dark", content=BRIGHT, headers={"accept": f"image/{name}"})
    assert answer.headers["content-type"] == f"image/{name}"
    assert decoded(answer.content).shape == (40, 60, 3)
    assert answer.headers["x-lightbox-label"] == "bright"
    assert answer.headers["x-lightbox-class"] == "dark"
    assert answer.headers["x-lightbox-empty"] == "true"
    assert json.loads(answer.headers["x-lightbox-probabilities"])["bright"] == pytest.approx(0.8)
    assert "accept" in answer.headers["vary"].lower()


def test_several_accept_headers_are_one(client):
    """As RFC 9110 has it."""
    headers = [("accept", "text/html"), ("accept", "image/png")]
    assert client.post("/explain", content=BRIGHT, headers=headers).headers["content-type"] == "image/png"


def test_any_image_means_the_format_that_the_query_prefers(client):
    """`image/*` leaves the choice to `format`."""
    answer = client.post("/explain?format=webp", content=BRIGHT, headers={"accept": "image/*"})
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_the_overlay_in_json_has_the_format_asked(client, name):
    """And says so."""
    overlay = client.post(f"/explain?format={name}", content=BRIGHT).json()["explanation"]["overlay"]
    assert overlay["media_type"] == f"image/{name}"


def test_alpha_and_colormap_change_the_picture_and_nothing_else(client):
    """The evidence is the same however it is drawn."""
    answers = [
        client.post(f"/explain?{query}", content=FILM).json()["explanation"]
        for query in ("", "alpha=0.1", "colormap=viridis")
    ]
    assert len({answer["overlay"]["data"] for answer in answers}) == 3
    assert answers[0]["heatmap"] == answers[1]["heatmap"] == answers[2]["heatmap"]


def test_contrast_is_named_in_the_answer(client):
    """class against against."""
    explanation = client.post("/explain?class=bright&against=dark", content=BRIGHT).json()["explanation"]
    assert (explanation["class"], explanation["against"]) == ("bright", "dark")


def test_a_request_id_is_echoed_or_made(client):
    """And one that could forge a log line is replaced."""
    assert client.get("/livez", headers={"x-request-id": "abc"}).headers["x-request-id"] == "abc"
    made = {client.get("/livez").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert client.get("/livez", headers={"x-request-id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_models_tell_what_is_served(client):
    """Name, version, device."""
    listed = {model["name"]: model for model in client.get("/models").json()["models"]}
    assert listed["double"] == {
        "name": "double",
        "default": True,
        "version": 3,
        "versions": [3],
        "loaded": [3],
        "refused": [],
        "device": "CPU",
    }


def test_a_model_tells_its_manifest(client):
    """Facts, not digests."""
    facts = client.get("/models/double").json()
    assert facts["classes"] == ["dark", "middle", "bright"]
    assert facts["input"] == {
        "height": 8,
        "width": 8,
        "channels": 3,
        "fit": "squash",
        "resize": "antialias",
        "expects": {"modality": [], "body_part": [], "view": []},
    }
    assert facts["feature_layer"]["name"] == "blocks"
    assert facts["methods"] == list(METHODS)
    assert facts["device"] == "CPU"
    assert "files" not in facts


def test_health_before_during_and_after():
    """Alive always; ready only with a model."""
    client = TestClient(create_app(Settings(), BrightnessRuntime()))
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    with client:
        assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_the_api_describes_itself(client):
    """OpenAPI names every parameter and all three bodies."""
    paths = client.get("/openapi.json").json()["paths"]
    assert {p["name"] for p in paths["/explain"]["post"]["parameters"]} >= {"class", "against", "method", "alpha"}
    assert paths["/predict"]["post"]["requestBody"]["content"].keys() >= {"multipart/form-data", "application/json"}
    assert client.get("/docs").status_code == 200
