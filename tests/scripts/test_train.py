"""Training, end to end on generated films with a tiny backbone, and the evaluation of what it yields."""

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.artifact.manifest import InputSpec, read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.films import read_films
from scripts.evaluate import main as evaluate_main
from scripts.networks import backbones
from scripts.train import main
from scripts.training.features import FeatureCache, cache_features
from scripts.training.fitting import Fitter, fit_lungs, network_for, variants_of
from scripts.training.pipeline import train
from scripts.training.recipe import Recipe
from tests import tiny
from tests.films import write_table

pytestmark = pytest.mark.slow

OPTIONS = ["--backbone", "tiny", "--weights", "none", "--variants", "1", "--epochs", "2", "--batch-size", "8"]
COMMAND = [*OPTIONS, "--folds", "2", "--name", "shade"]
RECIPE = Recipe(
    backbone="tiny",
    weights="none",
    variants=1,
    epochs=6,
    batch_size=8,
    learning_rate=1e-3,
    head_learning_rate=3e-2,
    head_decay=0.0,
    lung_epochs=3,
)


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone():
    tiny.register()
    yield
    tiny.unregister()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data"), patients=20, films_each=2)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("masked"), patients=20, films_each=2, masks=True)


@dataclass(frozen=True)
class Run:
    """A finished run of the command: the artefact, the work folder, and what it printed."""

    entry: Path
    work: Path
    printed: str


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """One run without an interruption, whose result several tests look at."""
    folder = tmp_path_factory.mktemp("finished")
    where = ["--data", str(data), "--store", str(folder / "store"), "--work", str(folder / "work")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*where, *COMMAND]) == 0
    return Run(folder / "store" / "shade" / "1", folder / "work", printed.getvalue())


def weights_of(entry):
    """Every variable of an artefact, as a process without Keras's code for it sees them."""
    return [variable.numpy() for variable in TensorFlowRuntime(entry)._model.model_variables]


def trained(data, tmp_path, **changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    return train(data, "shade", tmp_path / "store", tmp_path / "work", recipe, fold_count=2)


def test_the_command_trains_and_reports(finished):
    """It writes a version with manifest and report, says where, and leaves the work folder empty."""
    assert str(finished.entry) in finished.printed
    manifest = read_manifest(finished.entry)
    assert manifest.classes == ("bright", "dark")
    assert manifest.metrics["accuracy"]["films"] == 40
    assert manifest.training["split"] == {"by": "patient", "folds": [20, 20]}
    assert manifest.training["backbone"] == "tiny"
    assert manifest.training["recipe"]["epochs"] == 2
    assert manifest.novelty.threshold == 1.0
    report = finished.entry / "report"
    assert np.sum(json.loads((report / "metrics.json").read_text())["confusion"]) == 40
    assert "All intervals are 95 % intervals" in (report / "report.html").read_text()
    assert list(finished.work.iterdir()) == []


def test_it_learns(finished):
    """It tells bright from dark on films of patients that it never saw, and rarely calls those novel."""
    metrics = read_manifest(finished.entry).metrics
    assert metrics["accuracy"]["value"] == 1.0
    assert metrics["novelty"]["films_flagged"]["value"] <= 0.15


def test_masks_give_the_network_a_lung_gate(masked, tmp_path):
    """The feature layer is the gated one, and what lies outside the lungs gets less heat."""
    entry = trained(masked, tmp_path, least_masks=10, lung_epochs=60)
    runtime = TensorFlowRuntime(entry)
    assert runtime.manifest.feature_layer.name == "lung_gate"
    assert runtime.manifest.feature_layer.channels == 6
    film = np.full((1, 32, 32, 3), 190, np.uint8)
    film[:, :, 16:] = 60  # the masks of the generated films cover what is bright
    energy = runtime.evidence(film, np.zeros((1, 1, 2), np.float32)).features[0].sum(axis=-1)
    assert energy[:, :4].mean() > 3 * energy[:, 4:].mean()


def test_without_a_mask_to_learn_from_the_gate_is_open(masked):
    """Where the only source with masks is left out, the gate takes everything for lung."""
    films = read_films(masked)
    network = network_for(films, 2, dataclasses.replace(RECIPE, least_masks=10))
    cuts = np.random.default_rng(0).random((len(films), 16, 16, 4)).astype(np.float16)
    fit_lungs(network, FeatureCache([cuts], [np.zeros((0, 16, 16, 1), np.float32)], []), range(len(films)), RECIPE)
    np.testing.assert_allclose(network.lungs(cuts[:2].astype(np.float32)), np.ones((2, 16, 16, 1)), atol=1e-6)


def test_a_kernel_head_is_exported_too(masked, tmp_path):
    """The artefact reproduces its predictions, and its heatmap is not empty."""
    entry = trained(masked, tmp_path, backbone="tiny-frozen", head="kernel", weighting="none", least_masks=10)
    runtime = TensorFlowRuntime(entry)
    assert runtime.manifest.metrics["accuracy"]["value"] == 1.0
    film = np.full((1, 32, 32, 3), 190, np.uint8)
    film[:, 8:20, 8:20] = 70
    evidence = runtime.evidence(film, np.array([[[1, 0], [0, 1]]], np.float32))
    assert np.abs(evidence.gradients[0, 0]).max() > 0
    assert runtime.manifest.training["recipe"]["head"] == "kernel"


def test_what_is_far_from_the_films_is_novel(finished):
    """A chessboard is above the threshold, and above a flat image as bright as the bright films."""
    runtime = TensorFlowRuntime(finished.entry)
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    scores = runtime.predict(np.stack([np.repeat(board[..., None], 3, axis=-1), np.full((32, 32, 3), 190, np.uint8)]))
    assert scores.novelty[0] > runtime.manifest.novelty.threshold
    assert scores.novelty[0] > scores.novelty[1]


def test_weights_are_half_precision_values(finished):
    """They are rounded before the evaluation, so that the figures are those of the published weights."""
    for weights in weights_of(finished.entry):
        assert (weights.astype(np.float16).astype(np.float32) == weights).all()


@pytest.mark.process
def test_an_interrupted_run_resumes_and_ends_the_same(data, finished, tmp_path):
    """Killed after a fold, it leaves nothing in the store; run again, it yields what an uninterrupted run does."""
    store, work = tmp_path / "store", tmp_path / "work"
    arguments = ["--data", str(data), "--store", str(store), "--work", str(work), *COMMAND]
    command = [sys.executable, "-m", "tests.tiny", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        while "trained without fold 1 of 2" not in run.stdout.readline():
            assert run.poll() is None
        run.kill()
    assert not list(store.glob("shade/*"))
    assert list(work.glob("*/shade/1"))

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0

    assert "trained without fold 1 of 2" not in printed.getvalue()
    assert "trained without fold 2 of 2" in printed.getvalue()
    for one, two in zip(weights_of(finished.entry), weights_of(store / "shade" / "1"), strict=True):
        np.testing.assert_array_equal(one, two)


def fitted(data, work, seed):
    """The weights of a network that is fitted to all films of `data`."""
    recipe = dataclasses.replace(RECIPE, epochs=1, seed=seed)
    films = read_films(data)
    network = network_for(films, 2, recipe)
    spec = InputSpec(height=32, width=32, channels=3, fit="crop")
    work.mkdir()
    cache = cache_features(network.frozen, films, spec, variants_of(recipe), work)
    labels = np.array([film.label == "dark" for film in films], int)
    Fitter(network, cache, films, labels, recipe).fit(np.arange(len(films)))
    return [weights for part in network.trained for weights in part.get_weights()]


def test_the_seed_decides(data, tmp_path):
    """The same seed gives the same weights, and another seed gives others."""
    a, b, c = (fitted(data, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))


def test_evaluate_judges_any_artefact_on_any_folder(data, finished, tmp_path, capsys):
    """The films that a model gets wrong are shown with their heatmaps on a page of their own, not in the report."""
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    text = (data / "metadata.csv").read_text()
    (swapped / "metadata.csv").write_text(text.replace("bright", "x").replace("dark", "bright").replace("x", "dark"))
    for film in data.glob("*.png"):
        (swapped / film.name).write_bytes(film.read_bytes())
    out = tmp_path / "out"
    assert evaluate_main(["--model", str(finished.entry), "--data", str(swapped), "--out", str(out)]) == 0
    assert "accuracy 0.000" in capsys.readouterr().out
    gallery = (out / "films" / "index.html").read_text()
    assert gallery.count("data:image/jpeg;base64,") == 40 * 3
    assert "bright predicted as dark" in gallery
    report = (out / "report.html").read_text()
    assert "data:image" not in report
    assert not re.search(r"(src|href)=.?(https?:)?//", report)


def test_what_can_not_be_trained_is_refused(tmp_path, capsys):
    """The exit status is 1, the message gives the reason, and nothing is written."""
    assert main(["--data", str(tmp_path / "absent"), "--store", str(tmp_path / "store")]) == 1
    assert "no data folder" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_weights_that_can_not_be_had_are_refused(data, tmp_path, capsys):
    """The message names the file."""
    options = ["--store", str(tmp_path / "store"), "--work", str(tmp_path), "--weights", "absent.h5"]
    assert main(["--data", str(data), *options]) == 1
    assert "no file absent.h5" in capsys.readouterr().err


@pytest.mark.process
def test_a_machine_that_can_not_download_is_told_what_else_there_is(data, tmp_path):
    """The default weights are ImageNet's; behind a dead proxy the command exits with 1 and names the other set."""
    offline = os.environ | {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "scripts.train", "--data", str(data), "--store", str(tmp_path / "store")]
    run = subprocess.run([*command, "--work", str(tmp_path)], env=offline, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "--weights hed" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_hed_weights_fill_every_convolution():
    """All thirteen have weights, and the feature layer keeps its grid of 14 x 14."""
    hed = backbones.BACKBONES["vgg16"].build("hed")
    convolutions = [layer for layer in hed.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 13
    assert all(np.abs(layer.get_weights()[1]).max() > 0 for layer in convolutions)
    assert hed.output_shape == (None, 14, 14, 512)
    assert tf.reduce_max(hed(np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32))) > 0
