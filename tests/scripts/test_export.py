"""The command line that packs a Keras file."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.artifact.manifest import read_manifest
from scripts.export import main
from tests import models


def classes_of(model):
    return ("a", "b", "c")[: max(2, model.output_shape[-1])]


@pytest.mark.parametrize("kind", models.PACKABLE)
def test_a_keras_file_is_packed_and_predicts_the_same(kind, tmp_path, capsys):
    """Saved by Keras, read by the command, loaded by plain TensorFlow."""
    build, layer = models.PACKABLE[kind]
    model = build()
    model.save(tmp_path / "model.keras")
    names = ",".join(classes_of(model))
    store = tmp_path / "store"
    assert main([str(tmp_path / "model.keras"), "--classes", names, "--name", "m", "--store", str(store)]) == 0
    assert f"feature layer: {layer}" in capsys.readouterr().out
    images = np.random.default_rng(1).integers(0, 256, (5, *model.input_shape[1:]), np.uint8)
    served = tf.saved_model.load(str(store / "m" / "1")).signatures
    actual = served["serving_default"](images=tf.constant(images))["probabilities"].numpy()
    expected = model(images.astype(np.float32), training=False).numpy()
    if kind in ("logits", "residual, operator preprocessing"):
        expected = keras.ops.softmax(expected).numpy()
    elif kind == "one-unit sigmoid":
        expected = np.concatenate([1 - expected, expected], axis=-1)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "names", "reason"),
    [
        (models.gap_linear, "a,b", "2 class names for 3 logits"),
        (models.gap_linear, "a,a,b", "distinct"),
        (
            lambda: keras.Sequential(
                [keras.Input((16, 16, 2)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]
            ),
            "a,b",
            "2 channels",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((None, None, 3)), layers.Conv2D(2, 3), layers.GlobalMaxPooling2D(), layers.Dense(2)]
            ),
            "a,b",
            "--size",
        ),
    ],
)
def test_what_can_not_be_packed_is_refused_and_leaves_nothing(build, names, reason, tmp_path, capsys):
    """Status 1, the reason, and a store as it was."""
    build().save(tmp_path / "m.keras")
    store = tmp_path / "store"
    assert main([str(tmp_path / "m.keras"), "--classes", names, "--name", "m", "--store", str(store)]) == 1
    assert reason in capsys.readouterr().err
    assert not list(store.glob("m/*"))


def test_a_model_without_a_size_is_given_one(tmp_path):
    """By --size."""
    model = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(2, 3, name="c"), layers.GlobalMaxPooling2D(), layers.Dense(2)]
    )
    model.save(tmp_path / "m.keras")
    arguments = [
        str(tmp_path / "m.keras"),
        "--classes",
        "a,b",
        "--name",
        "m",
        "--store",
        str(tmp_path),
        "--size",
        "24x32",
    ]
    assert main(arguments) == 0
    manifest = read_manifest(tmp_path / "m" / "1")
    assert (manifest.input.height, manifest.input.width) == (24, 32)


def test_a_file_that_is_no_model_is_refused(tmp_path, capsys):
    """Missing, or something else."""
    (tmp_path / "m.keras").write_text("hello")
    for name in ("m.keras", "absent.keras"):
        assert main([str(tmp_path / name), "--classes", "a,b", "--name", "m", "--store", str(tmp_path)]) == 1
        assert name in capsys.readouterr().err
