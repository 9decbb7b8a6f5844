"""What an artefact answers, and what is proved of it before it is published."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.artifact.manifest import FeatureLayer, InputSpec, RegionSpec, read_manifest
from app.explain.cams import gradcam, normalise
from scripts.errors import ExportError
from scripts.exporting.keras_files import export
from scripts.exporting.packing import pack
from scripts.exporting.preprocessing import PREPROCESSINGS, preprocess
from scripts.exporting.split_model import SplitModel
from tests import models
from tests.exports import organ_package


def test_the_map_in_the_graph_is_the_map_in_numpy(entry_of):
    """`explain` equals Grad-CAM of the same `evidence`, and says which class it resolved."""
    served = tf.saved_model.load(str(entry_of(models.nested_twice))).signatures
    images = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), np.uint8)
    asked = np.array([-1, 0, 1, 2], np.int32)
    explained = served["explain"](images=tf.constant(images), class_index=tf.constant(asked))
    targets = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)[:, None]
    evidence = served["evidence"](images=tf.constant(images), targets=tf.constant(targets))
    for row in range(4):
        raw = gradcam(evidence["features"][row].numpy(), evidence["gradients"][row, 0].numpy())
        np.testing.assert_allclose(explained["heatmap"][row].numpy(), normalise(raw).values, atol=1e-5)
    predicted = explained["probabilities"].numpy()[0].argmax()
    assert explained["class_index"].numpy().tolist() == [predicted, 0, 1, 2]
    assert explained["class_index"].dtype == tf.int32


def test_a_one_unit_sigmoid_explains_both_classes(entry_of):
    """Its two logits are each other's negative, so are its maps; at least one has something to show."""
    served = tf.saved_model.load(str(entry_of(models.one_unit_sigmoid))).signatures
    images = tf.constant(np.random.default_rng(3).integers(0, 256, (2, 16, 16, 3), np.uint8))
    targets = tf.constant(np.tile(np.eye(2, dtype=np.float32), (2, 1, 1)))
    gradients = served["evidence"](images=images, targets=targets)["gradients"].numpy()
    assert (gradients[:, 0] == -gradients[:, 1]).all()
    assert np.abs(gradients).max() > 0


ALONE = """
import json, sys
import numpy as np, resource, tensorflow as tf
from tensorflow.python.eager import context
loaded = tf.saved_model.load(sys.argv[1])
predict, explain = loaded.signatures["serving_default"], loaded.signatures["explain"]
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def call(size, seed):
    images = tf.constant(np.random.default_rng(seed).integers(0, 256, (size, 16, 16, 3), np.uint8))
    a = predict(images=images)["probabilities"].numpy()
    b = explain(images=images, class_index=tf.fill([size], -1))["probabilities"].numpy()
    return float(np.abs(a - b).max())
worst = max(call(size, size) for size in range(1, 9))
functions = lambda: len(context.context().list_function_names())  # a new trace registers new functions
known, before = functions(), rss()
worst = max([worst, *(call(1 + i % 8, i) for i in range(500))])
foreign = [name for name in sys.modules if name.split(".")[0] in ("app", "scripts")]
print(json.dumps({"worst": worst, "grown": rss() - before, "foreign": foreign,
    "traces": functions() - known}))
"""


@pytest.mark.slow
@pytest.mark.process
def test_the_artefact_stands_alone(entry_of, tmp_path):
    """A fresh process with TensorFlow and nothing of ours: 500 calls at batch sizes 1 to 8, no growth."""
    entry = entry_of(models.batch_norm_dropout)
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(entry)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    result = json.loads(run.stdout)
    assert result["worst"] <= 1e-6
    assert result["grown"] < 50e6
    assert result["foreign"] == []
    assert result["traces"] == 0


@pytest.mark.parametrize("mode", PREPROCESSINGS)
def test_preprocessing_by_flag_is_that_of_keras_applications(mode):
    """The modes mean what Keras means by them."""
    images = np.random.default_rng(4).integers(0, 256, (2, 5, 5, 3), np.uint8)
    values = images.astype(np.float32)
    if mode == "none":
        expected = values
    elif mode == "bgr":
        expected = values[..., ::-1]
    elif mode == "rescale":
        expected = values / 255
    else:
        expected = keras.applications.imagenet_utils.preprocess_input(values.copy(), mode=mode)
    np.testing.assert_allclose(preprocess(images, mode).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("mode", PREPROCESSINGS)
def test_preprocessing_is_inside_the_artefact(mode, tmp_path):
    """What is served takes pixels."""
    model = models.randomised(
        keras.Sequential(
            [keras.Input((16, 16, 3)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(3, activation="softmax")]
        )
    )
    model.set_weights([weight / 200 for weight in model.get_weights()])
    entry = export(model, ("a", "b", "c"), "m", tmp_path, preprocessing=mode)
    images = np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), np.uint8)
    served = tf.saved_model.load(str(entry)).signatures["serving_default"]
    expected = model(preprocess(images, mode), training=False).numpy()
    np.testing.assert_allclose(served(images=tf.constant(images))["probabilities"].numpy(), expected, atol=1e-5)


def test_the_manifest_says_what_the_model_means(entry_of):
    """Classes in logit order, the input, the layer; digests of all files."""
    manifest = read_manifest(entry_of(models.nested_once))
    assert manifest.classes == ("NORMAL", "PNEUMONIA", "COVID-19")
    assert manifest.input == InputSpec(height=16, width=16, channels=3, fit="squash")
    assert manifest.feature_layer == FeatureLayer(name="relu.2", height=7, width=7, channels=8)
    assert (manifest.novelty, manifest.training, manifest.metrics) == (None, None, None)
    assert "variables/variables.data-00000-of-00001" in manifest.files


def test_versions_count_up(tmp_path):
    """Unless one is asked for; one that exists is refused."""
    model = models.gap_linear()
    entries = [export(model, ("a", "b", "c"), "m", tmp_path, version=version).name for version in (None, 7, None)]
    assert entries == ["1", "7", "8"]


def test_an_export_that_does_not_reproduce_the_model_is_refused(tmp_path):
    """The proof is made on what was written, before it is published."""

    class Counting(layers.Layer):
        """Gives another answer each time that it is called: no graph can reproduce it."""

        calls = 0

        def call(self, inputs):
            Counting.calls += 1
            return inputs * Counting.calls / 1000

    class Random(layers.Layer):
        """Holds state that is no weight."""

        def call(self, inputs):
            return inputs + keras.random.uniform(keras.ops.shape(inputs))

    for layer, reason in ((Counting(), "differ"), (Random(), "state")):
        image = keras.Input((16, 16, 3))
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(layer(image)))
        with pytest.raises(ExportError, match=reason):
            export(keras.Model(image, layers.Dense(3)(x)), ("a", "b", "c"), "m", tmp_path)
    assert not list((tmp_path / "m").iterdir())


def organ(row, column, height, width):
    """A red rectangle in a black image of 32 x 32, `[32, 32, 3]`."""
    film = np.zeros((32, 32, 3), np.uint8)
    film[row : row + height, column : column + width, 0] = 255
    return film


def test_a_box_and_regions_are_outputs_of_every_signature(entry_of):
    """By hand: where the red is, in shares; an L fills three quarters of its box; nothing red, the whole image."""
    entry = entry_of(models.red_organ)
    served = tf.saved_model.load(str(entry)).signatures
    corner = organ(4, 8, 16, 8)
    corner[12:20, 8:24, 0] = 255
    images = tf.constant(np.stack([organ(8, 16, 4, 12), corner, np.zeros((32, 32, 3), np.uint8)]))
    answers = [
        served["serving_default"](images=images),
        served["explain"](images=images, class_index=tf.fill([3], -1)),
        served["evidence"](images=images, targets=tf.zeros((3, 1, 2))),
    ]
    for answer in answers:
        np.testing.assert_allclose(
            answer["box"], [[0.5, 0.25, 0.875, 0.375], [0.25, 0.125, 0.75, 0.625], [0, 0, 1, 1]], atol=1e-6
        )
        assert (answer["regions"][0].numpy() == 1).all()
        expected = np.ones((4, 4))
        expected[:2, 2:] = 0
        np.testing.assert_allclose(answer["regions"][1], expected, atol=1e-6)
        assert not answer["regions"][2].numpy().any()
    assert read_manifest(entry).region == RegionSpec(name="organ")


def test_models_without_the_optional_outputs_have_none(entry_of):
    """Their signatures are what they were."""
    served = tf.saved_model.load(str(entry_of(models.gap_linear))).signatures
    assert set(served["serving_default"].structured_outputs) == {"probabilities", "novelty"}
    assert set(served["explain"].structured_outputs) == {"probabilities", "class_index", "heatmap"}
    assert len(served["evidence"].structured_outputs) == 5
    assert read_manifest(entry_of(models.gap_linear)).region is None


def changed_outputs(change):
    """`red_organ` with a trunk whose outputs `change(features, box, regions)` replaces."""
    parts = models.red_organ()
    return SplitModel(keras.Model(parts.trunk.input, list(change(*parts.trunk.outputs))), parts.head, parts.layer)


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda f, box, regions: (f, box[:, ::-1], regions), {}, "left of right and top of bottom"),
        (lambda f, box, regions: (f, box, regions + 0.5), {}, r"shares in 0\.\.1; the model answers 0\.5 to"),
        (lambda *outputs: outputs, {"feature_region": (0.0, 0.0, 0.5, 1.0)}, "not both"),
    ],
)
def test_outputs_that_are_no_places_are_refused(tmp_path, change, options, reason):
    """Before anything is published."""
    with pytest.raises(ExportError, match=reason):
        pack(organ_package(changed_outputs(change), "made", **options), tmp_path)
    assert not list(tmp_path.glob("made/*"))
