"""Training, end to end on generated films with a tiny backbone, and the evaluation of what it yields."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from app.artifact.manifest import read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.collection import Selection
from scripts.train import main
from scripts.training.pipeline import train
from scripts.training.recipe import Recipe
from tests.films import write_table

pytestmark = pytest.mark.usefixtures("tiny_backbones")


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """An artefact with a kernel head, trained on films with lung masks."""
    folder = tmp_path_factory.mktemp("gated")
    data = write_table(folder, patients=20, films_each=2, masks=True)
    kernel = {"backbone": "tiny-frozen", "weights": "none", "head": "kernel", "weighting": "none"}
    recipe = Recipe(**kernel, least_masks=10)
    return train(Selection((data,)), "shade", folder / "store", folder / "work", recipe, fold_count=2)


def weights_of(entry):
    """Every variable of an artefact, as a process without Keras's code for it sees them."""
    return [variable.numpy() for variable in TensorFlowRuntime(entry)._model.model_variables]


def test_the_command_trains_and_reports(trained_run):
    """It writes a version with manifest and report, says where, and leaves only features in the work folder."""
    assert str(trained_run.entry) in trained_run.printed
    manifest = read_manifest(trained_run.entry)
    assert manifest.classes == ("bright", "dark")
    assert manifest.metrics["accuracy"]["films"] == 40
    assert manifest.training["split"] == {"by": "patient", "folds": [20, 20]}
    assert manifest.training["backbone"] == "tiny"
    assert manifest.training["recipe"]["epochs"] == 2
    assert manifest.novelty.threshold == 1.0
    report = trained_run.entry / "report"
    assert np.sum(json.loads((report / "metrics.json").read_text())["confusion"]) == 40
    assert "All intervals are 95 % intervals" in (report / "report.html").read_text()
    assert [path.name.split("-")[0] for path in trained_run.work.iterdir()] == ["features"]


def test_it_learns(trained_run):
    """It tells bright from dark on films of patients that it never saw, and rarely calls those novel."""
    metrics = read_manifest(trained_run.entry).metrics
    assert metrics["accuracy"]["value"] == 1.0
    assert metrics["novelty"]["films_flagged"]["value"] <= 0.15


@pytest.mark.slow
def test_masks_give_the_network_a_lung_gate(gated):
    """The feature layer is the gated one, and what lies outside the lungs has less energy."""
    runtime = TensorFlowRuntime(gated)
    assert runtime.manifest.feature_layer.name == "lung_gate"
    assert runtime.manifest.feature_layer.channels == 6
    film = np.full((1, 32, 32, 3), 190, np.uint8)
    film[:, :, 16:] = 60  # the masks of the generated films cover what is bright
    energy = runtime.evidence(film, np.zeros((1, 1, 2), np.float32)).features[0].sum(axis=-1)
    assert energy[:, :4].mean() > 3 * energy[:, 4:].mean()


@pytest.fixture(scope="module")
def finding(tmp_path_factory):
    """An artefact that finds the lungs first, trained on films with masks of two folders, and the films."""
    folder = tmp_path_factory.mktemp("finding")
    data = [write_table(folder / name, patients=12, films_each=1, masks=True) for name in ("a", "b")]
    options = ["--backbone", "tiny-frozen", "--weights", "none", "--head", "moments", "--variants", "0", "--ungated"]
    options += ["--lungs-first", "--folds", "2", "--name", "shade", "--depth", "figures"]
    where = ["--store", str(folder / "store"), "--work", str(folder / "work")]
    assert main([*(part for one in data for part in ("--data", str(one))), *where, *options]) == 0
    return folder / "store" / "shade" / "1"


@pytest.mark.slow
def test_a_network_that_finds_the_lungs_says_where_it_looked(finding):
    """It takes the whole film, and its box and its regions are those of the bright half."""
    runtime = TensorFlowRuntime(finding)
    manifest = runtime.manifest
    assert (manifest.input.fit, manifest.input.width) == ("pad", 384)
    assert manifest.region.name == "lungs"
    assert manifest.metrics["accuracy"]["films"] == 24
    film = np.full((1, 384, 384, 3), 60, np.uint8)
    film[:, :, :192] = 230
    scores = runtime.predict(film)
    assert scores.box.shape == (1, 4)
    assert scores.regions.shape == (1, manifest.feature_layer.height, manifest.feature_layer.width)
    evidence = runtime.evidence(film, np.zeros((1, 1, 2), np.float32))
    np.testing.assert_array_equal(evidence.box, scores.box)
    np.testing.assert_array_equal(evidence.regions, scores.regions)


@pytest.mark.slow
def test_where_no_lungs_are_found_the_whole_image_is_taken(finding):
    """A flat image has no lungs: no region, and the box is all of it."""
    scores = TensorFlowRuntime(finding).predict(np.full((1, 384, 384, 3), 128, np.uint8))
    np.testing.assert_array_equal(scores.box, [[0, 0, 1, 1]])
    assert not scores.regions.any()


@pytest.mark.slow
def test_a_kernel_head_is_exported_too(gated):
    """The artefact predicts as well as its head, and its heatmap is not empty."""
    runtime = TensorFlowRuntime(gated)
    assert runtime.manifest.metrics["accuracy"]["value"] == 1.0
    film = np.full((1, 32, 32, 3), 190, np.uint8)
    film[:, :, :16] = 230  # lung, as in the generated films
    evidence = runtime.evidence(film, np.array([[[1, 0], [0, 1]]], np.float32))
    assert np.abs(evidence.gradients[0, 0]).max() > 0
    assert runtime.manifest.training["recipe"]["head"] == "kernel"


def test_what_is_far_from_the_films_is_novel(trained_run):
    """A chessboard is above the threshold, and above a flat image as bright as the bright films."""
    runtime = TensorFlowRuntime(trained_run.entry)
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    scores = runtime.predict(np.stack([np.repeat(board[..., None], 3, axis=-1), np.full((32, 32, 3), 190, np.uint8)]))
    assert scores.novelty[0] > runtime.manifest.novelty.threshold
    assert scores.novelty[0] > scores.novelty[1]


def test_weights_are_half_precision_values(trained_run):
    """They are rounded before the evaluation, so that the figures are those of the published weights."""
    for weights in weights_of(trained_run.entry):
        assert (weights.astype(np.float16).astype(np.float32) == weights).all()


@pytest.mark.process
def test_an_interrupted_run_resumes_and_ends_the_same(data, trained_run, tmp_path):
    """Killed after a fold, it leaves nothing in the store; run again, it yields what an uninterrupted run does."""
    store, work = tmp_path / "store", tmp_path / "work"
    arguments = ["--data", str(data), "--store", str(store), "--work", str(work), *trained_run.options]
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
    for one, two in zip(weights_of(trained_run.entry), weights_of(store / "shade" / "1"), strict=True):
        np.testing.assert_array_equal(one, two)


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


@pytest.mark.slow
@pytest.mark.process
def test_a_machine_that_can_not_download_is_told_what_else_there_is(data, tmp_path):
    """The default weights are ImageNet's; behind a dead proxy the command exits with 1 and names the other set."""
    offline = os.environ | {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "scripts.train", "--data", str(data), "--store", str(tmp_path / "store")]
    run = subprocess.run([*command, "--work", str(tmp_path)], env=offline, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "--weights hed" in run.stderr
    assert "Traceback" not in run.stderr
