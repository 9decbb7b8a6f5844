"""The models of this process, asked through the interface that the routes use."""

import pickle
import threading

import anyio
import numpy as np
import pytest

from app import errors
from app.errors import CorruptImageError, QuestionError, UnknownModelError
from app.explain.question import Question
from app.imaging.headers import identify
from app.imaging.network_input import NetworkInput
from app.imaging.overlay import Style
from app.serving.analyzer import Drawing
from app.serving.interface import ModelChoice, Models
from app.serving.service import run_service
from app.settings import Settings
from app.telemetry.stages import Telemetry
from tests.doubles import BrightnessRuntime, GatedRuntime
from tests.pictures import constant, decoded, encoded, noise

DEFAULT = ModelChoice()
BRIGHT, DARK = (identify(encoded(constant(value))) for value in (255, 20))
BROKEN = identify(BRIGHT.data[:-30])


def ask(question, tmp_path, runtime=None):
    """What `question(models)` gives, where the models are those of a service of this process."""

    async def body():
        settings = Settings(model_store=tmp_path)
        runtime_ = runtime or BrightnessRuntime()
        async with run_service(settings, Telemetry(), runtime_, lambda _: runtime_, None) as service:
            models: Models = service.models
            return await question(models)

    return anyio.run(body)


def test_several_images_are_answered_in_their_order(tmp_path):
    """All by one version, which the answer names."""
    answer = ask(lambda models: models.predict(DEFAULT, [BRIGHT, DARK, BRIGHT]), tmp_path)
    assert [prediction.label for prediction in answer.results] == ["bright", "dark", "bright"]
    assert answer.manifest.version == 3


def test_the_error_of_one_image_is_the_error_of_the_request(tmp_path):
    """As itself, not as a group of errors; the other images are given up."""
    runtime = GatedRuntime()
    threading.Timer(0.2, runtime.gate.set).start()
    with pytest.raises(CorruptImageError):
        ask(lambda models: models.predict(DEFAULT, [DARK, BROKEN]), tmp_path, runtime)


def test_the_error_names_its_image_where_there_are_several(tmp_path):
    """By its index; a question that can't be answered is no image's fault."""
    with pytest.raises(CorruptImageError, match=r"^image 1: the PNG"):
        ask(lambda models: models.predict(DEFAULT, [DARK, BROKEN]), tmp_path)
    with pytest.raises(CorruptImageError, match=r"^the PNG"):
        ask(lambda models: models.predict(DEFAULT, [BROKEN]), tmp_path)
    with pytest.raises(QuestionError, match=r"^unknown class"):
        ask(lambda models: models.explain(DEFAULT, [DARK, DARK], Question(class_name="nobody")), tmp_path)


@pytest.mark.parametrize("window_ms", [0, 2])
def test_the_images_of_one_request_are_one_batch(tmp_path, window_ms):
    """However long one of them takes to decode, and however short the window is."""
    images = [DARK, identify(encoded(noise(1500, 1500))), BRIGHT]
    settings, telemetry = Settings(model_store=tmp_path, batch_window_ms=window_ms), Telemetry()

    async def body():
        runtime = BrightnessRuntime()
        async with run_service(settings, telemetry, runtime, lambda _: runtime, None) as service:
            await service.models.predict(DEFAULT, images)
            await service.models.explain(DEFAULT, images, Question())

    anyio.run(body)
    exposed = telemetry.metrics.exposition().decode()
    assert "lightbox_batch_size_count 2.0" in exposed
    assert "lightbox_batch_size_sum 6.0" in exposed


def test_an_unknown_model_is_refused(tmp_path):
    """By every question that names one."""
    with pytest.raises(UnknownModelError):
        ask(lambda models: models.predict(ModelChoice("nobody"), [BRIGHT]), tmp_path)
    with pytest.raises(UnknownModelError):
        ask(lambda models: models.manifest(ModelChoice("nobody")), tmp_path)


def test_the_default_model_needs_no_name(tmp_path):
    """Neither to be asked nor to be described."""
    assert ask(lambda models: models.manifest(DEFAULT), tmp_path).name == "double"


def test_pixels_reach_the_network_as_they_are(tmp_path):
    """And the overlay is drawn on them."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    question, drawing = Question(class_name="bright"), Drawing(Style(alpha=0))
    answer = ask(lambda models: models.explain(DEFAULT, [NetworkInput(pixels)], question, drawing), tmp_path)
    heatmap = answer.only.heatmap  # Grad-CAM of the double is the brightness itself
    assert np.allclose(heatmap.values * heatmap.raw_max, pixels.mean(axis=-1) / 255, atol=1e-6)
    assert (decoded(answer.only.overlay.data) == pixels).all()


@pytest.mark.parametrize(("shape", "frame"), [((8, 9, 3), None), ((8, 8, 1), None), ((8, 8, 3), 2)])
def test_pixels_of_another_shape_are_refused(tmp_path, shape, frame):
    """So is a frame, of which pixels have none."""
    image = NetworkInput(np.zeros(shape, np.uint8))
    with pytest.raises(QuestionError):
        ask(lambda models: models.predict(DEFAULT, [image], frame=frame), tmp_path)


@pytest.mark.parametrize("drawing", [None, Drawing(Style()), Drawing(Style(), encoded=False)])
def test_answers_survive_a_process_boundary(tmp_path, drawing):
    """What another process answers is what this one would have."""
    question = Question(faithfulness=True, all_classes=True)
    answer = ask(lambda models: models.explain(DEFAULT, [BRIGHT], question, drawing), tmp_path)
    again = pickle.loads(pickle.dumps(answer))  # noqa: S301  # made by this test
    assert again.manifest == answer.manifest
    assert again.only.prediction == answer.only.prediction
    assert again.only.receipt == answer.only.receipt
    assert again.only.faithfulness == answer.only.faithfulness
    assert again.only.overlay == answer.only.overlay
    assert (again.only.heatmap.values == answer.only.heatmap.values).all()
    assert (again.only.picture is None) == (drawing is None or drawing.encoded)


def _kinds(kind):
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


@pytest.mark.parametrize("kind", _kinds(errors.LightboxError))
def test_errors_survive_a_process_boundary(kind):
    """With their kind, their message, and what a response needs beside it."""
    arguments = {
        errors.UnknownNameError: ("class", "x", ["a", "b"]),
        errors.UnsupportedEncodingError: ("no such encoding", ["gzip"]),
    }
    error = kind(*arguments.get(kind, ("a reason",)))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # made by this test
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
