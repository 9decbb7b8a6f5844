"""The serving runtime over artefacts that were really exported, and its refusals."""

import hashlib
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from starlette.testclient import TestClient

from app.artifact.manifest import read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import find_artifact, seal
from app.errors import ArtifactError, DigestMismatchError, SignatureError
from app.explain.cams import gradcam, normalise
from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify
from app.main import create_app
from app.settings import Settings
from scripts.exporting.keras_files import export
from tests import models
from tests.doubles import manifest
from tests.pictures import constant, decoded, encoded, noise


def images(count, side=models.SIDE, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


def one_hot(index, classes=3):
    return np.eye(classes, dtype=np.float32)[index]


def raw_maps(runtime, batch, targets):
    """The Grad-CAM before its ReLU for each image and target: `[B, T, h, w]`."""
    evidence = runtime.evidence(batch, np.broadcast_to(targets, (len(batch), *np.shape(targets))).astype(np.float32))
    return np.stack(
        [
            [gradcam(features, gradient) for gradient in gradients]
            for features, gradients in zip(evidence.features, evidence.gradients, strict=True)
        ]
    )


def scaled_top(factor=1.0, shift=0.0):
    """`gap_linear` with its last kernel and bias times `factor`, plus `shift` on every logit."""
    model = models.gap_linear()
    kernel, bias = model.get_layer("top").get_weights()
    model.get_layer("top").set_weights([kernel * factor, bias * factor + shift])
    return model


@pytest.fixture(scope="module")
def runtime_with(tmp_path_factory):
    def load(model, classes=("a", "b", "c")):
        return TensorFlowRuntime(export(model, classes, "made", tmp_path_factory.mktemp("store")))

    return load


def test_gradcam_of_a_linear_head_has_its_closed_form(runtime_of):
    """conv → GAP → dense: the map of class c is Σ_k W_kc·A_k / Z, for every class."""
    runtime = runtime_of(models.gap_linear)
    batch = images(3)
    features = runtime.evidence(batch, np.zeros((3, 1, 3), np.float32)).features
    kernel = models.gap_linear().get_layer("top").get_weights()[0]
    z = features.shape[1] * features.shape[2]
    for index in range(3):
        expected = features @ kernel[:, index] / z
        np.testing.assert_allclose(raw_maps(runtime, batch, [one_hot(index)])[:, 0], expected, rtol=1e-5, atol=1e-8)


def test_gradients_equal_central_differences(runtime_of):
    """Of the logit, through a two-layer head, at single features and for the channel weights."""
    runtime = runtime_of(models.two_layer_head)
    model = models.two_layer_head()
    softmax = model.layers[-1]
    softmax.activation = keras.activations.linear
    head = keras.Model(model.get_layer("features").output, model.output)
    batch = images(2)
    evidence = runtime.evidence(batch, np.tile(one_hot([0, 1, 2]), (2, 1, 1)))
    step = 1e-2
    for target in range(3):
        for channel in range(evidence.features.shape[-1]):
            bump = np.zeros_like(evidence.features)
            bump[..., channel] = step
            up, down = (np.asarray(head(evidence.features + sign * bump)) for sign in (1, -1))
            difference = (up - down)[:, target] / (2 * step)  # Σ over the grid of the gradient
            actual = evidence.gradients[:, target, ..., channel].sum(axis=(1, 2))
            np.testing.assert_allclose(actual, difference, rtol=1e-2, atol=1e-4)


def test_saturation_changes_nothing(runtime_of, runtime_with):
    """With weights × 1000, p rounds to 1 and a softmax gradient would vanish; the logit's map stays as it was."""
    batch = images(4)
    plain, saturated = runtime_of(models.gap_linear), runtime_with(scaled_top(factor=1000))
    assert saturated.predict(batch).probabilities.max(axis=-1).tolist() == [1, 1, 1, 1]
    for index in range(3):
        for before, after in zip(
            raw_maps(plain, batch, [one_hot(index)]), raw_maps(saturated, batch, [one_hot(index)]), strict=True
        ):
            assert not normalise(after[0]).empty
            np.testing.assert_allclose(normalise(after[0]).values, normalise(before[0]).values, atol=1e-5)


def test_a_shift_of_all_logits_changes_nothing(runtime_of, runtime_with):
    """Adding 7 to each is invisible to softmax and to gradients."""
    batch = images(3)
    plain, shifted = runtime_of(models.gap_linear), runtime_with(scaled_top(shift=7))
    np.testing.assert_allclose(plain.predict(batch).probabilities, shifted.predict(batch).probabilities, atol=1e-6)
    np.testing.assert_allclose(
        raw_maps(plain, batch, one_hot([0, 1])), raw_maps(shifted, batch, one_hot([0, 1])), rtol=1e-5, atol=1e-9
    )


def test_rows_never_influence_one_another(runtime_of):
    """A batch through batch-norm and dropout equals its images alone, and any order of them."""
    runtime = runtime_of(models.batch_norm_dropout)
    batch = np.concatenate([images(5), np.zeros((1, 16, 16, 3), np.uint8), images(2) // 8])
    targets = one_hot([0, 1, 2, 0, 1, 2, 0, 1])[:, None]
    together = runtime.evidence(batch, targets)
    order = np.random.default_rng(1).permutation(8)
    shuffled = runtime.evidence(batch[order], targets[order])
    for name in ("probabilities", "logits", "features", "gradients"):
        singles = np.concatenate(
            [getattr(runtime.evidence(batch[i : i + 1], targets[i : i + 1]), name) for i in range(8)]
        )
        np.testing.assert_allclose(getattr(together, name), singles, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(getattr(shuffled, name), getattr(together, name)[order], rtol=1e-5, atol=1e-5)


def test_targets_asked_at_once_equal_those_asked_alone(runtime_of):
    """T questions are T answers."""
    runtime = runtime_of(models.two_layer_head)
    batch = images(2)
    targets = np.stack([one_hot(0), one_hot(1) - one_hot(2), -one_hot(2)])
    together = raw_maps(runtime, batch, targets)
    for index, target in enumerate(targets):
        np.testing.assert_allclose(together[:, index], raw_maps(runtime, batch, [target])[:, 0], rtol=1e-5, atol=1e-7)


def test_a_counterfactual_target_is_the_exact_negative(runtime_of):
    """Before the ReLU."""
    maps = raw_maps(runtime_of(models.two_layer_head), images(3), np.stack([one_hot(1), -one_hot(1)]))
    assert (maps[:, 0] == -maps[:, 1]).all()


def test_an_all_zero_target_asks_for_the_predicted_class(runtime_of):
    """Row by row, whatever each row predicts."""
    runtime = runtime_of(models.batch_norm_dropout)
    batch = images(4)
    evidence = runtime.evidence(batch, np.zeros((4, 1, 3), np.float32))
    named = runtime.evidence(batch, one_hot(evidence.logits.argmax(axis=-1))[:, None])
    assert (evidence.gradients == named.gradients).all()


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_planted_square_is_found(runtime_of, row, column):
    """Within one stride of its centre, in nine positions; what speaks against it is empty."""
    runtime = runtime_of(models.planted_square)
    picture = np.full((1, 32, 32, 3), 20, np.uint8)
    top, left = 2 + row * 10, 2 + column * 10
    picture[:, top : top + 8, left : left + 8] = 255
    absent, bright = raw_maps(runtime, picture, one_hot([0, 1], 2))[0]
    peak = np.unravel_index(bright.argmax(), bright.shape)
    assert abs((peak[0] + 0.5) * 4 - (top + 4)) <= 4
    assert abs((peak[1] + 0.5) * 4 - (left + 4)) <= 4
    assert normalise(absent).empty


def test_predict_and_evidence_agree(runtime_of):
    """The same network, whatever is asked of it."""
    runtime = runtime_of(models.two_layer_head)
    batch = images(3)
    evidence = runtime.evidence(batch, np.zeros((3, 2, 3), np.float32))
    np.testing.assert_allclose(runtime.predict(batch).probabilities, evidence.probabilities, atol=1e-6)
    assert evidence.gradients.shape == (3, 2, *evidence.features.shape[1:])


def test_a_model_without_novelty_answers_zeros(runtime_of):
    """And its manifest says null."""
    runtime = runtime_of(models.gap_linear)
    assert runtime.predict(images(2)).novelty.tolist() == [0, 0]
    assert runtime.manifest.novelty is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_constant_images_are_answered(real_client, level):
    """Finite, valid JSON, a valid picture."""
    answer = real_client.post("/explain", content=encoded(constant(level)))
    explanation = json.loads(answer.text, parse_constant=pytest.fail)["explanation"]
    values = np.array(explanation["heatmap"]["values"])
    assert np.isfinite(values).all()
    assert explanation["empty"] == (values.max() == 0)


def test_the_service_answers_what_the_runtime_says(real_client, runtime_of):
    """From encoded bytes to JSON nothing is lost."""
    runtime = runtime_of(models.batch_norm_dropout)
    film = encoded(noise(50, 70))
    spec = runtime.manifest.input
    pixels = to_input(
        decode(identify(film), max_pixels=10_000), width=spec.width, height=spec.height, channels=3, fit=spec.fit
    )
    body = real_client.post("/explain?class=PNEUMONIA", content=film).json()
    np.testing.assert_allclose(
        list(body["probabilities"].values()), runtime.predict(pixels[None]).probabilities[0], atol=1e-6
    )
    expected = normalise(raw_maps(runtime, pixels[None], [one_hot(1)])[0, 0])
    np.testing.assert_allclose(body["explanation"]["heatmap"]["values"], expected.values, atol=1e-5)
    picture = real_client.post("/explain", content=film, headers={"accept": "image/png"})
    assert decoded(picture.content).shape == (50, 70, 3)


@pytest.fixture
def copy(entry_of, tmp_path):
    """A copy of an exported model, to be damaged."""
    entry = entry_of(models.gap_linear)
    return shutil.copytree(entry, tmp_path / entry.parent.name / "1")


def resealed(copy, **changes):
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_flipped_byte_is_refused(copy, name):
    """With the file's name."""
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(DigestMismatchError, match=name.split("/")[-1]):
        TensorFlowRuntime(copy)


def test_a_wrong_class_count_is_refused(copy):
    """The manifest and the graph must mean the same."""
    resealed(copy, classes=["a", "b"])
    with pytest.raises(SignatureError, match=r"probabilities.*3.*manifest says.*2"):
        TensorFlowRuntime(copy)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"input": {"height": 8, "width": 16, "channels": 3, "fit": "crop"}}, "images"),
        ({"feature_layer": {"name": "x", "height": 9, "width": 8, "channels": 6}}, "heatmap"),
        ({"feature_layer": {"name": "x", "height": 8, "width": 8, "channels": 7}}, "features"),
    ],
)
def test_a_wrong_shape_is_refused(copy, changes, named):
    """With the tensor's name and both shapes."""
    resealed(copy, **changes)
    with pytest.raises(SignatureError, match=named):
        TensorFlowRuntime(copy)


def test_a_missing_signature_is_refused(tmp_path):
    """A SavedModel of other make is told from ours."""
    entry = tmp_path / "double" / "1"
    module = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3], tf.uint8, name="images")
    signature = tf.function(
        lambda images: {"probabilities": tf.zeros((tf.shape(images)[0], 3))}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(entry), signatures={"serving_default": signature})
    files = {
        str(path.relative_to(entry)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in entry.rglob("*")
        if path.is_file()
    }
    (entry / "manifest.json").write_text(manifest().model_copy(update={"files": files}).model_dump_json())
    with pytest.raises(SignatureError, match="'novelty' is missing"):
        TensorFlowRuntime(entry)


def test_a_box_and_regions_are_told_for_each_image(runtime_of):
    """With the scores as with the evidence, and the same in any company; a model without them answers none."""
    runtime = runtime_of(models.red_organ)
    batch = images(3, side=32) // 2
    batch[0, 4:12, 8:24, 0] = 255
    together = runtime.evidence(batch, np.zeros((3, 1, 2), np.float32))
    assert together.box[0].tolist() == [0.25, 0.125, 0.75, 0.375]
    assert together.box[1].tolist() == [0, 0, 1, 1]
    for row in range(3):
        alone = runtime.predict(batch[row : row + 1])
        np.testing.assert_allclose(alone.box[0], together.box[row], atol=1e-6)
        np.testing.assert_allclose(alone.regions[0], together.regions[row], atol=1e-6)
    plain = runtime_of(models.gap_linear).predict(images(1))
    assert (plain.box, plain.regions) == (None, None)


@pytest.fixture
def organ(entry_of, tmp_path):
    """A copy of a model that answers boxes and regions, to be damaged."""
    return shutil.copytree(entry_of(models.red_organ), tmp_path / "organ" / "1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"region": None}, "has an output 'regions', but the manifest's 'region' does not name it"),
        (
            {"feature_layer": {"name": "x", "height": 4, "width": 4, "channels": 1, "region": [0, 0, 0.5, 1]}},
            "output 'box', and the manifest's 'feature_layer.region' says otherwise",
        ),
    ],
)
def test_optional_outputs_that_contradict_the_manifest_are_refused(organ, changes, reason):
    """In a sentence that says which."""
    resealed(organ, **changes)
    with pytest.raises(SignatureError, match=reason):
        TensorFlowRuntime(organ)


def test_a_region_without_an_output_is_refused(copy):
    """The manifest alone makes none."""
    resealed(copy, region={"name": "lungs"})
    with pytest.raises(SignatureError, match="names the region 'lungs', but there is no output 'regions'"):
        TensorFlowRuntime(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"serving_default": lambda outputs: outputs.pop("box")}, "'box' is in .*'explain', 'evidence'.*all of"),
        ({"evidence": lambda outputs: outputs.pop("regions")}, "'regions' is in .*must have it, or none"),
        ({"explain": lambda outputs: outputs.update(box=outputs["box"][:, :3])}, "output of 'explain' 'box' has shape"),
        (
            {"evidence": lambda outputs: outputs.update(regions=outputs["regions"][:, :2])},
            "output of 'evidence' 'regions' has shape",
        ),
    ],
)
def test_optional_outputs_of_another_shape_or_in_some_signatures_are_refused(entry_of, tmp_path, change, reason):
    """The same graph, saved again with other outputs."""
    entry = entry_of(models.red_organ)
    loaded = tf.saved_model.load(str(entry))

    def wrapped(name):
        signature = loaded.signatures[name]

        def answer(**inputs):
            outputs = dict(signature(**inputs))
            change.get(name, lambda _: None)(outputs)
            return outputs

        inputs = signature.structured_input_signature[1]
        return tf.function(answer).get_concrete_function(
            **{key: tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in inputs.items()}
        )

    made = tmp_path / "made" / "1"
    tf.saved_model.save(loaded, str(made), signatures={name: wrapped(name) for name in loaded.signatures})
    seal(made, read_manifest(entry).model_copy(update={"self_test": None}))
    with pytest.raises(SignatureError, match=reason):
        TensorFlowRuntime(made)


def test_the_service_does_not_start_with_a_refused_model(copy):
    """It fails with the reason, instead of answering nonsense."""
    resealed(copy, classes=["a", "b"])
    settings = Settings(model_store=copy.parent.parent, model=copy.parent.name)
    assert find_artifact(settings.model_store, settings.model) == copy
    with pytest.raises(ArtifactError), TestClient(create_app(settings)):
        pass
