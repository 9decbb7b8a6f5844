"""The command's options, and what it says when it refuses."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.artifact.manifest import read_manifest
from scripts.export import main
from scripts.exporting.preprocessing import Standardised, parse, preprocess
from tests import models

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture
def command(tmp_path, capsys):
    """Exports a model with options; gives the status, what was said on stderr, and the entry."""

    def run(model, *options, names="a,b,c"):
        path = model
        if isinstance(model, keras.Model):
            path = tmp_path / "m.keras"
            model.save(path)
        classes = [] if names is None else ["--classes", names]
        status = main([str(path), *classes, "--name", "m", "--store", str(tmp_path / "store"), *options])
        return status, capsys.readouterr().err, tmp_path / "store" / "m" / "1"

    return run


def served(entry, images=IMAGES):
    signature = tf.saved_model.load(str(entry)).signatures["serving_default"]
    return signature(images=tf.constant(images))["probabilities"].numpy()


def test_a_multi_label_model_has_independent_sigmoids_and_thresholds(command):
    """In all signatures; a threshold for each class, or one for all."""
    model = models.gap_linear(3, "sigmoid")
    status, _, entry = command(model, "--thresholds", "0.2,0.5,0.7")
    assert status == 0
    manifest = read_manifest(entry)
    assert (manifest.task, manifest.thresholds) == ("multi_label", (0.2, 0.5, 0.7))
    own = np.asarray(model(IMAGES.astype(np.float32)))
    np.testing.assert_allclose(served(entry), own, atol=1e-5)
    signatures = tf.saved_model.load(str(entry)).signatures
    explained = signatures["explain"](images=tf.constant(IMAGES), class_index=tf.fill([3], -1))
    np.testing.assert_allclose(explained["probabilities"], own, atol=1e-5)
    assert explained["class_index"].numpy().tolist() == own.argmax(axis=-1).tolist()
    evidence = signatures["evidence"](images=tf.constant(IMAGES), targets=tf.zeros([3, 1, 3]))
    np.testing.assert_allclose(1 / (1 + np.exp(-evidence["logits"].numpy())), own, atol=1e-5)


@pytest.mark.parametrize(("given", "reason"), [("0.1,0.2", "takes one number, or 3"), ("1.5", "in 0..1")])
def test_thresholds_that_fit_no_classes_are_refused(given, reason, command):
    """As many as there are classes, or one."""
    status, said, _ = command(models.gap_linear(3, "sigmoid"), "--thresholds", given)
    assert status == 1
    assert reason in said


@pytest.mark.parametrize(
    "text", ["x, y\nz\nw\n", '["x, y", "z", "w"]', '{"x, y": 0, "w": 2, "z": 1}', '{"0": "x, y", "2": "w", "1": "z"}']
)
def test_class_names_may_come_from_a_file(text, command, tmp_path):
    """One a line, or JSON; then a name may have a comma in it."""
    (tmp_path / "names").write_text(text)
    status, _, entry = command(models.gap_linear(), "--classes-file", str(tmp_path / "names"), names=None)
    assert status == 0
    assert read_manifest(entry).classes == ("x, y", "z", "w")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bgr", lambda pixels: pixels[..., ::-1]),
        ("127.5/127.5", lambda pixels: pixels / 127.5 - 1),
        ("10,20,30/1,2,4", lambda pixels: (pixels - [10, 20, 30]) / [1, 2, 4]),
    ],
)
def test_pixels_are_reversed_or_standardised(text, expected):
    """For each channel, or alike."""
    np.testing.assert_allclose(
        preprocess(IMAGES, parse(text)), expected(IMAGES.astype(np.float64)), rtol=1e-5, atol=1e-5
    )
    assert parse("1/2") == Standardised((1.0,), (2.0,))


@pytest.mark.parametrize("text", ["BGR", "1,2,3", "1/0", "1,2/3"])
def test_another_preprocessing_is_refused_with_the_form(text, command, capsys):
    """Before the model is read."""
    with pytest.raises(SystemExit):
        command(models.gap_linear(), "--preprocessing", text)
    assert "is not a preprocessing" in capsys.readouterr().err


def test_the_resampling_is_in_the_manifest(command):
    """The service resizes as it says."""
    _, _, entry = command(models.gap_linear(), "--resize", "bilinear")
    assert read_manifest(entry).input.resize == "bilinear"


def open_size():
    stack = [keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), layers.Dense(2)]
    return keras.Sequential(stack)


@pytest.mark.parametrize(
    ("build", "size", "outcome"),
    [
        (open_size, "24", (24, 24)),
        (open_size, "24x32", (24, 32)),
        (lambda: models.gap_linear(2), "16", (16, 16)),
        (lambda: models.gap_linear(2), "32", "fixed at 16x16"),
        (open_size, None, "--size 224"),
    ],
)
def test_the_size_of_the_input(build, size, outcome, command):
    """One side or two; a model of a fixed size keeps it."""
    status, said, entry = command(build(), *([] if size is None else ["--size", size]), names="a,b")
    if isinstance(outcome, str):
        assert status == 1
        assert outcome in said
    else:
        spec = read_manifest(entry).input
        assert (spec.height, spec.width) == outcome


OWN = """
import keras

@keras.saving.register_keras_serializable("mine")
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2
"""


def test_own_layers_come_from_the_users_file(command, tmp_path):
    """The refusal names the layer and the flag."""
    (tmp_path / "own.py").write_text(OWN)
    script = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import keras, own
image = keras.Input((16, 16, 3))
x = keras.layers.Conv2D(4, 3)(own.Doubled()(keras.layers.Rescaling(1 / 255)(image)))
keras.Model(image, keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(x))).save(sys.argv[1])
"""
    path = tmp_path / "m.keras"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True)
    status, said, _ = command(path)
    assert status == 1
    assert "mine>Doubled" in said
    assert "--custom" in said
    assert command(path, "--custom", str(tmp_path / "own.py"))[0] == 0


def test_a_lambda_is_run_only_when_the_file_is_trusted(command):
    """The refusal names the flag."""
    image = keras.Input((16, 16, 3))
    x = layers.Lambda(lambda values: values / 255.0)(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    model = keras.Model(image, layers.Dense(3, "softmax")(x))
    status, said, _ = command(model)
    assert status == 1
    assert "--unsafe-lambda" in said
    status, _, entry = command(model, "--unsafe-lambda")
    assert status == 0
    np.testing.assert_allclose(served(entry), np.asarray(model(IMAGES.astype(np.float32))), atol=1e-5)


def test_pixels_that_are_scaled_twice_or_not_at_all_get_a_warning(command):
    """With the flag to think about; the export goes on."""
    status, said, _ = command(models.gap_linear(), "--preprocessing", "tf")
    assert status == 0
    assert "consider --preprocessing none" in said
    image = keras.Input((16, 16, 3))
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(image)))
    model = models.randomised(keras.Model(image, x))
    model.layers[-1].set_weights([np.array([[0.2, -0.2]] * 4), np.zeros(2)])
    _, said, _ = command(model, names="a,b")
    assert "consider --preprocessing rescale" in said


FILES = {
    "m.keras": (b"hello", "not a Keras file"),
    "m.json": (b'{"class_name": "Functional"}', "--architecture"),
    "m.tflite": (b"\x20\x00\x00\x00TFL3rest", "TensorFlow Lite"),
    "m.pt": (b"\x80\x02rest", "PyTorch"),
    "m.html": (b"<!doctype html>", "web page"),
    "m.h5": (b"\x89HDF\r\n\x1a\n damaged", "could not be packed"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_are_called_by_their_names(name, command, tmp_path):
    """In one sentence of at most 300 characters, with what to do."""
    content, reason = FILES[name]
    (tmp_path / name).write_bytes(content)
    status, said, _ = command(tmp_path / name)
    assert status == 1
    assert reason in said
    assert len(said.strip()) <= 300
    assert "\n" not in said.strip()


def test_folders_and_archives_of_something_else(command, tmp_path):
    """A SavedModel, and a zip file."""
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    assert "SavedModel" in command(tmp_path / "saved")[1]
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("data.pkl", b"")
    assert "not a .keras file" in command(tmp_path / "m.keras")[1]


def test_a_refusal_has_its_trace_where_it_is_asked_for(command, tmp_path):
    """By --debug."""
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with pytest.raises(OSError, match="file"):
        command(tmp_path / "m.h5", "--debug")


def test_another_backend_in_the_users_environment_does_not_matter(tmp_path):
    """TensorFlow writes the artefact; nothing but the command's own words is said."""
    models.gap_linear().save(tmp_path / "m.keras")
    arguments = ["m.keras", "--classes", "a,b,c", "--name", "m", "--store", "store"]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.export", *arguments],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(Path(main.__code__.co_filename).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    manifest = json.loads((tmp_path / "store" / "m" / "1" / "manifest.json").read_text())
    assert manifest["feature_layer"]["name"] == "features"
