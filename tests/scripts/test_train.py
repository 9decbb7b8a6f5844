"""Training, end to end on generated films with a tiny backbone, and its judgement."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.artifact import read_manifest
from app.runtimes.tensorflow import TensorFlowRuntime
from scripts import networks
from scripts.evaluate import main as evaluate_main
from scripts.train import Recipe, best_temperature, main, train
from tests import tiny
from tests.films import write_table


@pytest.fixture(autouse=True)
def tiny_backbone():
    tiny.register()
    yield
    del networks.BACKBONES["tiny"]


RECIPE = Recipe(backbone="tiny", weights="none", variants=2, epochs=3, batch_size=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data"), patients=20, films_each=2)


def weights_of(entry):
    return [variable.numpy() for variable in TensorFlowRuntime(entry)._model.model_variables]


def test_the_command_trains_and_reports(data, tmp_path, capsys):
    """A versioned artefact with manifest and report, that tells bright from dark; the work folder is left empty."""
    arguments = ["--data", str(data), "--store", str(tmp_path / "store"), "--work", str(tmp_path / "work")]
    options = ["--backbone", "tiny", "--weights", "none", "--epochs", "2", "--variants", "1", "--name", "shade"]
    assert main(arguments + options) == 0
    entry = tmp_path / "store" / "shade" / "1"
    assert str(entry) in capsys.readouterr().out
    manifest = read_manifest(entry)
    assert manifest.classes == ("bright", "dark")
    assert manifest.metrics["accuracy"]["value"] == 1.0
    assert manifest.metrics["accuracy"]["films"] == manifest.training["split"]["test"] == 8
    assert manifest.training["split"]["by"] == "patient"
    assert manifest.training["backbone"] == "tiny"
    assert manifest.training["recipe"]["epochs"] == 2
    assert len(manifest.training["history"]) == 2
    assert json.loads((entry / "report" / "metrics.json").read_text())["confusion"] == [[4, 0], [0, 4]]
    assert "95 % interval" in (entry / "report" / "report.html").read_text()
    assert list((tmp_path / "work").iterdir()) == []


def test_weights_are_half_precision_values(data, tmp_path):
    """Rounded before they were judged, so that the figures are those of what is shipped."""
    entry = train(data, "half", tmp_path / "store", tmp_path / "work", RECIPE)
    for weights in weights_of(entry):
        assert (weights.astype(np.float16).astype(np.float32) == weights).all()


def test_an_interrupted_run_goes_on_and_ends_the_same(data, tmp_path):
    """Killed after an epoch, it has left nothing in the store; run again, it yields what one run would have."""
    recipe = ["--backbone", "tiny", "--weights", "none", "--variants", "1", "--epochs", "40", "--name", "shade"]
    command = [sys.executable, "-m", "tests.tiny", "--data", str(data), *recipe]
    stores = {name: ["--store", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")] for name in ("a", "b")}
    with subprocess.Popen(
        [*command, *stores["a"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        while "epoch 2:" not in run.stdout.readline():
            assert run.poll() is None
        run.kill()
    assert not list((tmp_path / "a").glob("shade/*"))
    assert list((tmp_path / "a-work").glob("*/epoch-2.keras"))
    for store in stores.values():
        subprocess.run([*command, *store], check=True, capture_output=True)
    halves, whole = (tmp_path / name / "shade" / "1" for name in stores)
    for one, two in zip(weights_of(whole), weights_of(halves), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_seed_decides(data, tmp_path):
    """The same seed gives the same weights; another gives others."""
    entries = [
        train(data, name, tmp_path / "store", tmp_path / name, Recipe(**{**RECIPE_FIELDS, "seed": seed}))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (weights_of(entry) for entry in entries)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))


RECIPE_FIELDS = {name: getattr(RECIPE, name) for name in RECIPE.__dataclass_fields__}


def test_evaluate_judges_any_artefact_on_any_folder(data, tmp_path, capsys):
    """The films that a model gets wrong are shown with their heatmaps, apart from the report."""
    entry = train(data, "judged", tmp_path / "store", tmp_path / "work", RECIPE)
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    text = (data / "metadata.csv").read_text()
    table = text.replace("bright", "x").replace("dark", "bright").replace("x", "dark")
    (swapped / "metadata.csv").write_text(table)
    for film in data.glob("*.png"):
        (swapped / film.name).write_bytes(film.read_bytes())
    out = tmp_path / "out"
    assert evaluate_main(["--model", str(entry), "--data", str(swapped), "--out", str(out)]) == 0
    assert "accuracy 0.000" in capsys.readouterr().out
    assert len(list((out / "films").glob("*.jpg"))) == 40 * 3
    assert "bright taken for dark" in (out / "films" / "index.html").read_text()
    assert "films/0" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"), [([], "no data folder"), (["--weights", "absent.h5"], "no data folder")]
)
def test_what_can_not_be_trained_is_refused(tmp_path, capsys, arguments, reason):
    """Status 1, the reason, nothing written."""
    assert main(["--data", str(tmp_path / "absent"), "--store", str(tmp_path / "store"), *arguments]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_temperature_undoes_overconfidence():
    """Logits three times too large ask for a temperature of three."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = (probabilities.cumsum(axis=-1) > rng.random((len(logits), 1))).argmax(axis=-1)
    assert best_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("name", ["vgg16"])
def test_the_hed_weights_fill_every_convolution(name):
    """Thirteen convolutions, Caffe order; a film's features differ from those of random weights."""
    hed = networks.BACKBONES[name].build("hed")
    convolutions = [layer for layer in hed.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 13
    assert all(np.abs(layer.get_weights()[1]).max() > 0 for layer in convolutions)
    assert hed.output_shape == (None, 14, 14, 512)
    assert tf.reduce_max(hed(np.full((1, 224, 224, 3), 10, np.float32))) > 0
