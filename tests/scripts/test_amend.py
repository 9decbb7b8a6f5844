"""Giving an older artefact what it was packed without."""

import shutil

import pytest

from app.artifact.manifest import Expectation, read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import seal, verify_files
from app.serving.self_test import run_self_test
from scripts.amend import main
from scripts.exporting.backfill import backfill
from tests import models
from tests.films import write_folder

BARE = {"self_test": None, "sanity": None, "cautions": None}


@pytest.fixture
def older(entry_of, tmp_path):
    """An artefact as it was packed before there were golden cases."""
    entry = shutil.copytree(entry_of(models.batch_norm_dropout), tmp_path / "store" / "made" / "1")
    (entry / "golden.npz").unlink()
    seal(entry, read_manifest(entry).model_copy(update=BARE))
    return entry


def saved_model(entry):
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in entry.rglob("*.*") if "var" in str(path)
    }


def test_an_older_artefact_loads_and_says_nothing_of_itself(older):
    """There is nothing to pass."""
    runtime = TensorFlowRuntime(older)
    assert runtime.manifest.self_test is None
    run_self_test(runtime, older)


def test_it_is_amended_without_touching_its_saved_model(older, tmp_path, capsys):
    """Golden cases, sanity, thresholds; the files that were there keep their bytes and digests."""
    before, files = saved_model(older), read_manifest(older).files
    data = write_folder(tmp_path, each=6)
    assert main([str(older), "--data", str(data)]) == 0
    assert "backfilled" in capsys.readouterr().out
    manifest = read_manifest(older)
    assert saved_model(older) == before
    assert manifest.files.items() >= files.items()
    assert set(manifest.files) - set(files) == {"golden.npz"}
    assert manifest.cautions is not None
    assert manifest.cautions.films == 12
    assert manifest.sanity is not None
    verify_files(older, manifest)
    run_self_test(TensorFlowRuntime(older), older)
    assert not list(older.glob(".*"))


def test_what_a_header_should_say_can_be_set(older):
    """And stays when it is not asked for again."""
    assert main([str(older), "--modality", "CR,DX", "--view", "PA"]) == 0
    expected = Expectation(modality=("CR", "DX"), view=("PA",))
    assert read_manifest(older).input.expects == expected
    assert main([str(older)]) == 0
    assert read_manifest(older).input.expects == expected


def test_amending_again_changes_nothing(older, tmp_path):
    """And without films the thresholds that were measured stay."""
    first = backfill(older, write_folder(tmp_path, each=3))
    golden = (older / "golden.npz").read_bytes()
    assert backfill(older) == first
    assert (older / "golden.npz").read_bytes() == golden


def test_what_does_not_verify_is_not_amended(older, capsys):
    """A changed file is no reason for a new digest."""
    (older / "variables" / "variables.index").write_bytes(b"other")
    before = (older / "manifest.json").read_bytes()
    assert main([str(older)]) == 1
    assert "SHA-256" in capsys.readouterr().err
    assert (older / "manifest.json").read_bytes() == before
    assert not (older / "golden.npz").exists()
