"""Predict and explain, over a runtime that a reader can follow."""

import itertools

import anyio
import numpy as np
import pytest

from app.artifact.manifest import NoveltySpec
from app.errors import CorruptImageError, QuestionError, UnknownNameError
from app.explain.question import Question
from app.imaging.headers import identify
from app.imaging.overlay import Style
from app.serving.analyzer import Analyzer, Drawing, Limits
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry
from tests import models
from tests.doubles import BrightnessRuntime, GatedRuntime, RecordingRuntime, manifest
from tests.pictures import constant, decoded, encoded


async def asked(call, runtime=None):
    """What `call(analyzer)` gives, over `runtime`."""
    with Workers(2) as workers:
        analyzer = Analyzer(runtime or BrightnessRuntime(), workers, Telemetry(), Limits(1_000_000, 256, 4, 0.01))
        return await call(analyzer)


def predicted(data, runtime=None):
    return anyio.run(asked, lambda analyzer: analyzer.predict(identify(data)), runtime)


def explained(data, runtime=None, drawing=None, **question):
    return anyio.run(asked, lambda analyzer: analyzer.explain(identify(data), Question(**question), drawing), runtime)


BRIGHT = encoded(constant(255))
DARK = encoded(constant(20))
HALF = np.zeros((40, 60), np.uint8)
HALF[:, 30:] = 255


def test_a_prediction_names_every_class_in_logit_order():
    """With the label of the most probable."""
    prediction = predicted(BRIGHT)
    assert list(prediction.probabilities) == ["dark", "middle", "bright"]
    assert prediction.label == "bright"
    assert prediction.probabilities["bright"] == pytest.approx(0.8)
    assert (prediction.original.width, prediction.original.height) == (60, 40)


@pytest.mark.parametrize(("data", "flagged"), [(BRIGHT, True), (DARK, False)])
def test_novelty_above_the_threshold_is_out_of_distribution(data, flagged):
    """The double's novelty is the brightness."""
    runtime = BrightnessRuntime(manifest(novelty=NoveltySpec(method="brightness", threshold=0.5)))
    novelty = predicted(data, runtime).novelty
    assert novelty.out_of_distribution is flagged


def test_a_model_without_novelty_says_none():
    """Not zero: nobody measured it."""
    assert predicted(BRIGHT).novelty is None


def test_the_predicted_class_is_explained_unless_another_is_asked():
    """`dark` is what speaks against brightness, so its map on a bright image is empty."""
    assert explained(BRIGHT).class_name == "bright"
    assert not explained(BRIGHT).heatmap.empty
    other = explained(BRIGHT, class_name="dark")
    assert other.class_name == "dark"
    assert other.heatmap.empty


def test_heat_lies_where_the_evidence_is():
    """The right half is bright, and warm."""
    heat = explained(encoded(HALF), class_name="bright").heatmap.values
    assert heat[:, :3].max() == 0
    assert heat[:, 5:].min() == 1


@pytest.mark.parametrize("question", [{"class_name": "bright", "against": "dark"}, {"against": "dark"}])
def test_contrast_is_the_difference_of_two_scores(question):
    """∂bright - ∂dark is 2 everywhere, for the predicted class as for a named one."""
    explanation = explained(BRIGHT, **question)
    assert (explanation.class_name, explanation.question.against) == ("bright", "dark")
    assert explanation.heatmap.raw_max == pytest.approx(2.0)


@pytest.mark.parametrize("question", [{"class_name": "dark", "against": "dark"}, {"against": "bright"}])
def test_a_class_against_itself_is_no_question(question):
    """Named twice, or named and predicted."""
    with pytest.raises(QuestionError):
        explained(BRIGHT, **question)


@pytest.mark.parametrize("question", [{"class_name": "x"}, {"against": "x"}, {"method": "x"}])
def test_unknown_names_are_refused(question):
    """With those that there are."""
    with pytest.raises(UnknownNameError, match="valid: "):
        explained(BRIGHT, **question)


def test_the_overlay_is_drawn_on_the_original():
    """In its size, reduced only where it is larger than the limit."""
    drawing = Drawing(Style())
    assert decoded(explained(BRIGHT, drawing=drawing).overlay.data).shape == (40, 60, 3)
    assert decoded(explained(encoded(constant(255, 300, 600)), drawing=drawing).overlay.data).shape == (128, 256, 3)


def test_the_heat_lies_on_the_part_that_the_features_cover():
    """A network that looks at the left half of its input leaves the right half of the image its own colours."""
    model = manifest()
    layer = model.feature_layer.model_copy(update={"region": (0.0, 0.0, 0.5, 1.0)})
    runtime = BrightnessRuntime(model.model_copy(update={"feature_layer": layer}))
    overlay = decoded(explained(BRIGHT, runtime, drawing=Drawing(Style(alpha=1.0))).overlay.data)
    assert (overlay[:, 30:] == decoded(BRIGHT)[:, 30:, None]).all()
    assert (overlay[:, :30] != decoded(BRIGHT)[:, :30, None]).any(axis=-1).all()


def test_the_map_of_a_network_that_crops_is_judged_inside_the_crop(runtime_of):
    """Hiding its hottest cells takes all that the planted square gave; hiding others takes next to nothing."""
    image = np.full((32, 32), 40, np.uint8)
    image[20:24, 8:12] = 255
    found = explained(encoded(image), runtime_of(models.cropped_square), faithfulness=True, class_name="PNEUMONIA")
    whole, *rest, hidden = found.faithfulness.heatmap.deletion
    assert whole > hidden + 0.05
    assert rest == pytest.approx([hidden] * 3, abs=0.01)
    assert found.faithfulness.random.deletion[1] > hidden + 0.02
    assert found.faithfulness.sigma == 4.0


def test_heat_that_lies_in_the_padding_alone_is_not_judged():
    """A network that pads may have a map with heat nowhere in the image; there is nothing to hide then."""
    model = manifest()
    layer = model.feature_layer.model_copy(update={"region": (-1.0, 0.0, 1.0, 1.0)})
    runtime = BrightnessRuntime(model.model_copy(update={"feature_layer": layer}))
    left = np.zeros((40, 60), np.uint8)
    left[:, :20] = 255  # the double's map is its input, which this manifest places half outside of the image
    found = explained(encoded(left), runtime, faithfulness=True, class_name="bright")
    assert found.heatmap.values[:, :2].all()
    assert found.faithfulness is None


def test_only_what_is_wanted_is_drawn():
    """No overlay unless it is asked for, and no file of it unless that is."""
    nothing, picture = explained(BRIGHT), explained(BRIGHT, drawing=Drawing(Style(), encoded=False))
    assert (nothing.picture, nothing.overlay) == (None, None)
    assert picture.picture.shape == (40, 60, 3)
    assert picture.overlay is None


def test_alpha_zero_gives_the_image_back():
    """Through the whole pipeline."""
    overlay = explained(encoded(HALF), drawing=Drawing(Style(alpha=0))).overlay
    assert (decoded(overlay.data) == HALF[..., None]).all()


CLASSES = (None, "dark", "middle", "bright")


@pytest.mark.parametrize("counterfactual", [False, True])
@pytest.mark.parametrize(
    ("name", "against"), [pair for pair in itertools.product(CLASSES, CLASSES) if pair[0] is None or pair[0] != pair[1]]
)
def test_the_receipt_records_what_was_differentiated(name, against, counterfactual):
    """The vector that the runtime was given for a named class; for the predicted one, what its rows add up to.

    On a white image the map is the gradient, which the double makes (-1, 0, 1) times the target.
    """
    if (name, against) == (None, "bright"):  # the predicted class against itself
        return
    runtime = RecordingRuntime()
    explanation = explained(BRIGHT, runtime, class_name=name, against=against, counterfactual=counterfactual)
    target = np.array(explanation.receipt.target)
    (given,) = runtime.targets
    if name is not None:
        assert given[0].tolist() == [target.tolist()]
    else:
        predicted = np.array([0, 0, -1 if counterfactual else 1])
        assert given[0][0].tolist() == [0, 0, 0]
        assert (predicted + given[0][1:].sum(axis=0)).tolist() == target.tolist()
    assert explanation.heatmap.raw_max == max(0.0, target @ [-1, 0, 1])


def test_the_receipt_names_the_library_that_computed():
    """As the runtime says."""
    receipt = explained(BRIGHT).receipt
    assert (receipt.library, receipt.library_version) == ("arithmetic", "1.0")


def test_an_image_that_can_not_be_decoded_never_reaches_the_model():
    """The runtime is not asked."""
    runtime = GatedRuntime()
    with pytest.raises(CorruptImageError):
        predicted(BRIGHT[:40], runtime)
    assert not runtime.entered.is_set()


def test_the_event_loop_is_free_while_the_model_computes():
    """Something else runs to its end in the meantime."""
    runtime = GatedRuntime()

    async def both():
        order = []

        async def predict():
            await asked(lambda analyzer: analyzer.predict(identify(BRIGHT)), runtime)
            order.append("predicted")

        async with anyio.create_task_group() as group:
            group.start_soon(predict)
            await anyio.to_thread.run_sync(runtime.entered.wait)
            order.append("alive")
            runtime.gate.set()
        return order

    assert anyio.run(both) == ["alive", "predicted"]
