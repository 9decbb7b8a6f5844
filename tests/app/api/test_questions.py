"""What can be asked about an image over HTTP, and what an answer says about itself."""

import hashlib
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.artifact.manifest import Expectation, HeatThresholds, NoveltySpec, WarningThresholds
from app.explain.cams import METHODS
from app.explain.faithfulness import cost
from app.main import create_app
from app.settings import Settings
from tests import models
from tests.dicoms import dicom
from tests.doubles import BrightnessRuntime, manifest
from tests.pictures import constant, encoded, noise
from tests.servers import until

FILM = encoded(noise(40, 60))
BRIGHT = encoded(constant(255))
SPOT = constant(20)
SPOT[10:20, 20:35] = 255
SPOT = encoded(SPOT)


class Counter(BrightnessRuntime):
    """Counts its calls and the images in them."""

    def __init__(self, facts=None):
        super().__init__(facts)
        self.predicted = []
        self.asked = []

    def predict(self, images):
        self.predicted.append(len(images))
        return super().predict(images)

    def evidence(self, images, targets):
        self.asked.append(targets.shape)
        evidence = super().evidence(images, targets)
        self.predicted.pop()  # what the evidence is built on is no call of its own
        return evidence


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def counted(counter):
    with TestClient(create_app(Settings(faithfulness_steps=3), counter)) as client:
        yield client


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers(real_client, method):
    """Over a model that was really exported; the answer names the method."""
    explanation = real_client.post(f"/explain?method={method}", content=FILM).json()["explanation"]
    assert explanation["method"] == method
    assert np.isfinite(explanation["heatmap"]["values"]).all()
    assert (explanation["class"] is None) == (method == "eigencam")


@pytest.mark.parametrize("query", ["class=NORMAL", "against=NORMAL", "counterfactual=true", "all_classes=true"])
def test_eigencam_has_no_class_and_says_so(real_client, query):
    """422, not another question's answer."""
    answer = real_client.post(f"/explain?method=eigencam&{query}", content=FILM)
    assert answer.status_code == 422
    assert "not class-specific" in answer.json()["detail"]


def test_a_counterfactual_shows_what_speaks_against(client):
    """What speaks against `dark` on a bright image is its brightness; for it, nothing."""
    speaking_for = client.post("/explain?class=dark", content=BRIGHT).json()["explanation"]
    against = client.post("/explain?class=dark&counterfactual=true", content=BRIGHT).json()["explanation"]
    assert speaking_for["empty"] is True
    assert against["empty"] is False
    assert against["counterfactual"] is True


def test_every_class_is_answered_from_one_pass(counted, counter):
    """One call of the model, one row more per class; all maps on one scale."""
    explanation = counted.post("/explain?all_classes=true", content=BRIGHT).json()["explanation"]
    assert counter.asked == [(1, 4, 3)]
    assert counter.predicted == []
    maps = {entry["class"]: np.array(entry["values"]) for entry in explanation["all_classes"]["maps"]}
    assert list(maps) == ["dark", "middle", "bright"]
    assert maps["bright"].max() == 1.0
    assert not maps["dark"].any()
    assert explanation["all_classes"]["raw_max"] == pytest.approx(explanation["heatmap"]["raw_max"])


def test_warnings_need_thresholds():
    """A model that has them warns, in `/predict` of what needs no heat; one that has none says so in `/models`."""
    spec = WarningThresholds(
        quantile=0.95, films=40, low_margin=0.9, heat={"gradcam": HeatThresholds(border_heat=0.1, diffuse_heat=0.5)}
    )
    facts = manifest(novelty=NoveltySpec(method="brightness", threshold=0.5)).model_copy(update={"cautions": spec})
    with TestClient(create_app(Settings(), BrightnessRuntime(facts))) as client:
        predicted = [warning["code"] for warning in client.post("/predict", content=BRIGHT).json()["warnings"]]
        explained = [warning["code"] for warning in client.post("/explain", content=BRIGHT).json()["warnings"]]
        assert client.get("/models/double").json()["cautions"]["films"] == 40
    assert predicted == ["novel_image", "low_margin"]
    assert explained == ["novel_image", "low_margin", "border_heat", "diffuse_heat"]
    with TestClient(create_app(Settings(), BrightnessRuntime())) as client:
        assert client.post("/explain", content=BRIGHT).json()["warnings"] == []
        assert client.get("/models/double").json()["cautions"] is None


def test_an_empty_map_is_a_warning(client):
    """Whatever the model's thresholds."""
    warnings = client.post("/explain?class=middle", content=BRIGHT).json()["warnings"]
    assert [warning["code"] for warning in warnings] == ["empty_heatmap"]


def test_faithfulness_is_judged_by_as_many_images_as_it_says(counted, counter):
    """Curves from the whole image to nothing and back, beside those of random maps."""
    answer = counted.post("/explain?faithfulness=true&class=bright", content=SPOT).json()["explanation"]
    judged = answer["faithfulness"]
    assert judged["images"] == cost(3, 19) == sum(counter.predicted)
    assert max(counter.predicted) <= 4
    assert judged["deletion"]["fractions"][0] == 0
    assert judged["deletion"]["fractions"][-1] == 1
    assert judged["deletion"]["probabilities"][0] == judged["insertion"]["probabilities"][-1]
    assert len(judged["insertion"]["random_probabilities"]) == 4
    assert judged["random_maps"] == 19
    assert isinstance(judged["better_than_random"], bool)
    assert judged["blur_sigma"] > 0


def test_of_an_empty_map_there_is_nothing_to_judge(counted, counter):
    """And no call is spent on it."""
    answer = counted.post("/explain?faithfulness=true&class=middle", content=BRIGHT).json()
    assert answer["explanation"]["faithfulness"] is None
    assert counter.predicted == []


def test_faithfulness_can_be_switched_off():
    """Its cost is the operator's to allow."""
    with TestClient(create_app(Settings(faithfulness_maps=0), BrightnessRuntime())) as client:
        answer = client.post("/explain?faithfulness=true&class=bright", content=SPOT)
        assert answer.status_code == 422
        assert "turned off" in answer.json()["detail"]
        assert client.post("/explain", content=SPOT).status_code == 200


class Slow(Counter):
    """Each call of the model waits for a permit."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)

    def predict(self, images):
        self.entered.release()
        assert self.permits.acquire(timeout=60)
        return super().predict(images)


def decoded_images(client):
    """How many images the service has decoded."""
    samples = (line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines())
    return next(float(value) for name, value in samples if name == 'lightbox_stage_seconds_count{stage="decode"}')


def test_faithfulness_does_not_starve_other_requests():
    """A prediction that comes while a heatmap is judged waits for a few calls of the model, not for the judgement."""
    runtime = Slow()
    with TestClient(create_app(Settings(), runtime)) as client, ThreadPoolExecutor(2) as pool:
        judged = pool.submit(client.post, "/explain?faithfulness=true&class=bright", content=SPOT)
        runtime.permits.release(3)  # for the evidence and two batches of the judgement
        for _ in range(4):
            assert runtime.entered.acquire(timeout=60)
        other = pool.submit(client.post, "/predict", content=FILM)
        until(lambda: decoded_images(client) == 2)
        runtime.permits.release(4)
        assert other.result(timeout=60).status_code == 200
        assert not judged.done()
        runtime.permits.release(1000)
        assert judged.result(timeout=60).status_code == 200


def test_the_receipt_names_all_that_decides_the_answer(real_client, entry_of):
    """The same request gives the same receipt, another film or question another."""
    first, again = (real_client.post("/explain?class=NORMAL", content=FILM).json() for _ in range(2))
    assert first["receipt"] == again["receipt"]
    assert first["explanation"] == again["explanation"]
    receipt = first["receipt"]
    assert receipt["image_sha256"] == hashlib.sha256(FILM).hexdigest()
    assert dict(zip(receipt["classes"], receipt["target"], strict=True))["NORMAL"] == 1.0
    assert sum(map(abs, receipt["target"])) == 1.0
    assert receipt["layer"] == first["explanation"]["layer"]
    assert receipt["model"] == entry_of(models.batch_norm_dropout).parent.name
    assert receipt["tensorflow"]
    other = real_client.post("/explain?class=NORMAL&counterfactual=true", content=FILM).json()["receipt"]
    assert sum(other["target"]) == -1.0


def test_the_best_classes_can_be_asked_for(client):
    """`top` of them, the best first; more than there are is all of them."""
    listed = client.post("/predict?top=2", content=BRIGHT).json()["top_k"]
    assert [entry["class"] for entry in listed] == ["bright", "dark"]
    assert listed[0]["probability"] == pytest.approx(0.8)
    assert len(client.post("/explain?top=9", content=BRIGHT).json()["top_k"]) == 3
    assert client.post("/predict?top=0", content=BRIGHT).status_code == 422


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_frame_is_chosen(client, path):
    """The second of two is bright; without a choice there is no answer."""
    frames = np.stack([constant(10), constant(250)])
    film = dicom(frames[0], NumberOfFrames=2, WindowCenter="127.5", WindowWidth="255")
    dataset = pydicom.dcmread(io.BytesIO(film))
    dataset.PixelData = frames.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    labels = [client.post(f"{path}?frame={number}", content=buffer.getvalue()).json()["label"] for number in (1, 2)]
    assert labels == ["dark", "bright"]
    for query, reason in (("", "2 frames"), ("?frame=3", "the image has 2")):
        answer = client.post(f"{path}{query}", content=buffer.getvalue())
        assert answer.status_code == 422
        assert reason in answer.json()["detail"]
    assert client.post(f"{path}?frame=0", content=BRIGHT).status_code == 422
    assert client.post(f"{path}?frame=2", content=BRIGHT).status_code == 422


@pytest.mark.parametrize("path", ["/predict", "/explain?class=bright"])
def test_a_header_that_contradicts_the_model_is_a_warning(path):
    """Not a refusal; a model that expects nothing says nothing."""
    expects = Expectation(modality=("CR", "DX"), body_part=("CHEST",), view=("PA", "AP"))
    facts = manifest()
    facts = facts.model_copy(update={"input": facts.input.model_copy(update={"expects": expects})})
    lateral_leg = dicom(noise(40, 60), BodyPartExamined="LEG", ViewPosition="LL")
    with TestClient(create_app(Settings(), BrightnessRuntime(facts))) as client:
        warnings = client.post(path, content=lateral_leg).json()["warnings"]
        assert [warning["code"] for warning in warnings] == ["unexpected_body_part", "unexpected_view"]
        assert "CHEST" in warnings[0]["detail"]
        assert client.post(path, content=dicom(noise(40, 60))).json()["warnings"] == []
        picture = client.post("/explain?class=bright", content=lateral_leg, headers={"accept": "image/png"})
        assert picture.headers["x-lightbox-warnings"] == "unexpected_body_part, unexpected_view"


def test_of_an_animation_the_first_frame_is_answered(client):
    """And that is said."""
    first, second = (Image.fromarray(constant(level)) for level in (250, 10))
    body = client.post("/predict", content=encoded(first, "GIF", save_all=True, append_images=[second])).json()
    assert body["label"] == "bright"
    assert [warning["code"] for warning in body["warnings"]] == ["first_frame_only"]
