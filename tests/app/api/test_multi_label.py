"""Multi-label models: every class by itself."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.artifact.manifest import WarningThresholds
from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime, manifest
from tests.pictures import constant, encoded

BRIGHT = encoded(constant(255))
FACTS = manifest().model_copy(update={"task": "multi_label"})


@pytest.fixture
def asking():
    """Clients of a multi-label model whose probabilities are 0.1, 0.1 and 0.8 on a white image."""
    opened = []

    def ask(thresholds=None, **changes):
        facts = FACTS.model_copy(update={"thresholds": thresholds, **changes})
        opened.append(TestClient(create_app(Settings(), BrightnessRuntime(facts))))
        return opened[-1].__enter__()

    yield ask
    for client in opened:
        client.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("thresholds", "labels"),
    [
        (None, ["bright"]),
        ((0.1, 0.5, 0.8), ["dark", "bright"]),  # at the threshold is enough
        ((0.05, 0.05, 0.05), ["dark", "middle", "bright"]),
        ((0.9, 0.9, 0.9), []),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_labels_are_the_classes_at_or_above_their_thresholds(asking, path, thresholds, labels):
    """Beside the most probable class, which is named in any case."""
    # In single precision, as the model has them.
    exact = thresholds and tuple(float(np.float32(value)) for value in thresholds)
    body = asking(exact).post(path, content=BRIGHT).json()
    assert body["labels"] == labels
    assert body["label"] == "bright"


def test_a_single_label_model_has_no_labels(client):
    """Its answer has no such key."""
    for path in ("/predict", "/explain"):
        assert "labels" not in client.post(path, content=BRIGHT).json()


def test_a_picture_has_them_in_a_header(asking):
    """As JSON: a name may have a comma."""
    answer = asking((0.05, 0.5, 0.5)).post("/explain", content=BRIGHT, headers={"accept": "image/png"})
    assert json.loads(answer.headers["x-lightbox-labels"]) == ["dark", "bright"]


@pytest.mark.parametrize("query", ["class=dark", "class=dark&against=middle", "class=middle&faithfulness=true"])
def test_any_class_can_be_explained(asking, query):
    """Found or not."""
    explanation = asking().post(f"/explain?{query}", content=BRIGHT).json()["explanation"]
    assert f"class={explanation['class']}" in query


def test_faithfulness_judges_the_classs_own_probability(asking):
    """On a uniform image nothing changes: each point of a curve is the sigmoid of the class, not a share of a sum."""
    judged = (
        asking().post("/explain?class=bright&faithfulness=true", content=BRIGHT).json()["explanation"]["faithfulness"]
    )
    assert judged["deletion"]["probabilities"] == pytest.approx([0.8] * len(judged["deletion"]["probabilities"]))


def test_a_small_margin_is_no_warning(asking):
    """Two findings may hold together."""
    thresholds = WarningThresholds(quantile=0.95, films=40, low_margin=0.99, heat={})
    assert asking(cautions=thresholds).post("/predict", content=BRIGHT).json()["warnings"] == []


def test_every_class_found_is_counted(asking):
    """A shift of each is a sign of drift."""
    client = asking((0.05, 0.5, 0.5))
    client.post("/predict", content=BRIGHT)
    text = client.get("/metrics").text
    for name, count in (("dark", True), ("middle", False), ("bright", True)):
        assert (f'lightbox_predictions_total{{class="{name}",model="double",version="3"}} 1.0' in text) is count


def test_a_model_tells_its_task(asking, client):
    """And its thresholds."""
    facts = asking((0.05, 0.5, 0.5)).get("/models/double").json()
    assert (facts["task"], facts["thresholds"]) == ("multi_label", [0.05, 0.5, 0.5])
    facts = client.get("/models/double").json()
    assert (facts["task"], facts["thresholds"]) == ("single_label", None)
