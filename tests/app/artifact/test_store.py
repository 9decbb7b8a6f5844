"""Finding, verifying, reading and writing entries of the model store."""

import json
import signal
import subprocess
import sys

import pytest

from app.artifact.manifest import HeatThresholds, Manifest, SanitySpec, SelfTestSpec, WarningThresholds, read_manifest
from app.artifact.store import find_artifact, model_names, model_versions, new_version, seal, verify_files
from app.errors import ArtifactNotFoundError, DigestMismatchError, ManifestError
from tests.doubles import manifest

EXAMINATION = ("cautions", "self_test", "sanity")


def write(store, version=None, name="double"):
    with new_version(store, name, version) as (entry, number):
        (entry / "variables").mkdir()
        (entry / "variables" / "variables.index").write_bytes(b"index")
        (entry / "saved_model.pb").write_bytes(b"graph")
        seal(entry, manifest().model_copy(update={"name": name, "version": number}))
    return store / name / str(number)


def edit(entry, **changes):
    path = entry / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_versions_count_up_and_the_highest_is_found(tmp_path):
    """10 is above 9: versions are numbers, not text."""
    assert [write(tmp_path).name for _ in range(2)] == ["1", "2"]
    write(tmp_path, 9)
    assert write(tmp_path).name == "10"
    assert find_artifact(tmp_path, "double").name == "10"
    assert find_artifact(tmp_path, "double", 2).name == "2"
    assert model_versions(tmp_path, "double") == [1, 2, 9, 10]


def test_two_that_are_written_at_once_become_two_versions(tmp_path):
    """Whichever is complete first; a version that is being written can't be asked for."""
    with new_version(tmp_path, "double") as (first, one), new_version(tmp_path, "double") as (second, two):
        assert first != second
        assert (one, two) == (1, 2)
        with pytest.raises(ArtifactNotFoundError, match="being written"), new_version(tmp_path, "double", 2):
            pass
    assert model_versions(tmp_path, "double") == [1, 2]


def test_a_process_that_is_killed_leaves_no_gap_in_the_versions(tmp_path):
    """What it had written is removed by the next one, which gets its version."""
    script = (
        "import os, signal, sys; from pathlib import Path; from app.artifact.store import new_version\n"
        "with new_version(Path(sys.argv[1]), 'double') as (entry, number):\n"
        "    (entry / 'saved_model.pb').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert write(tmp_path).name == "1"
    assert [path.name for path in (tmp_path / "double").iterdir()] == ["1"]


def test_what_is_no_version_is_not_seen(tmp_path):
    """Half-written folders, files and other names don't count."""
    write(tmp_path)
    for name in ("0", "-1", "latest", ".partial-x", "007", "1e3"):
        (tmp_path / "double" / name).mkdir()
    (tmp_path / "double" / "5").write_text("a file")
    (tmp_path / "empty").mkdir()
    assert model_versions(tmp_path, "double") == [1]
    assert model_names(tmp_path) == ["double"]


def test_an_interrupted_export_leaves_nothing(tmp_path):
    """Whatever ends the block, the store is as it was."""

    def interrupted():
        with new_version(tmp_path, "double") as (entry, _):
            (entry / "saved_model.pb").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "double").iterdir()) == []


def test_an_existing_version_is_never_overwritten(tmp_path):
    """A version means one thing for ever."""
    write(tmp_path, 4)
    with pytest.raises(ArtifactNotFoundError, match="exists already"), new_version(tmp_path, "double", 4):
        pass


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "a b", "x" * 200])
def test_names_that_are_paths_are_refused(tmp_path, name):
    """A model's name becomes a folder."""
    with pytest.raises(ManifestError, match="not a valid model name"), new_version(tmp_path, name):
        pass
    with pytest.raises(ArtifactNotFoundError):
        find_artifact(tmp_path, name)


def test_what_is_missing_is_said_with_what_there_is(tmp_path):
    """The store, the model, the version."""
    with pytest.raises(ArtifactNotFoundError, match="no model store"):
        find_artifact(tmp_path / "nowhere", "double")
    write(tmp_path)
    with pytest.raises(ArtifactNotFoundError, match="available: double"):
        find_artifact(tmp_path, "other")
    with pytest.raises(ArtifactNotFoundError, match=r"available: \[1\]"):
        find_artifact(tmp_path, "double", 2)


def test_a_sealed_entry_verifies(tmp_path):
    """The manifest that is read is the one that was written, with every file's digest."""
    entry = write(tmp_path)
    read = read_manifest(entry)
    assert sorted(read.files) == ["saved_model.pb", "variables/variables.index"]
    verify_files(entry, read)


def test_a_flipped_byte_is_found(tmp_path):
    """And the message names the file."""
    entry = write(tmp_path)
    (entry / "variables" / "variables.index").write_bytes(b"Index")
    with pytest.raises(DigestMismatchError, match=r"variables\.index"):
        verify_files(entry, read_manifest(entry))


def test_a_missing_file_is_found(tmp_path):
    """And the message names the file."""
    entry = write(tmp_path)
    (entry / "saved_model.pb").unlink()
    with pytest.raises(DigestMismatchError, match=r"saved_model\.pb is missing"):
        verify_files(entry, read_manifest(entry))


def test_a_manifest_must_cover_the_graph(tmp_path):
    """An empty list of digests verifies nothing, and is refused."""
    entry = write(tmp_path)
    edit(entry, files={})
    with pytest.raises(DigestMismatchError, match=r"no digest of saved_model\.pb"):
        verify_files(entry, read_manifest(entry))


def test_a_manifest_can_not_point_outside(tmp_path):
    """Digests of other files of the machine are nobody's business."""
    entry = write(tmp_path)
    edit(entry, files=read_manifest(entry).files | {"../../../etc/passwd": "0" * 64})
    with pytest.raises(DigestMismatchError, match="outside"):
        verify_files(entry, read_manifest(entry))


def test_pictures_of_patients_are_not_part_of_the_artefact(tmp_path):
    """A model can be passed on without them."""
    with new_version(tmp_path, "double") as (entry, _):
        for name in ("report/films/0.jpg", "report/report.html"):
            (entry / name).parent.mkdir(parents=True, exist_ok=True)
            (entry / name).write_text("x")
        assert list(seal(entry, manifest()).files) == ["report/report.html"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["a", "a"]}, "distinct"),
        ({"temperature": 0}, "temperature"),
        ({"schema_version": 2}, "schema_version"),
        ({"input": {"height": 8, "width": 8, "channels": 4, "fit": "crop"}}, "channels"),
        ({"input": {"height": 8, "width": 8, "channels": 3, "fit": "stretch"}}, "fit"),
        ({"files": {"saved_model.pb": "abc"}}, "files"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, changes, message):
    """The message names the field."""
    entry = write(tmp_path)
    edit(entry, **changes)
    with pytest.raises(ManifestError, match=message):
        read_manifest(entry)


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path, text):
    """Whatever lies there instead."""
    (tmp_path / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_manifest_survives_the_round_trip():
    """JSON loses nothing of it."""
    assert Manifest.model_validate_json(manifest().model_dump_json()) == manifest()


def test_an_examination_survives_the_file(tmp_path):
    """Thresholds, self-test and sanity outcome come back as they were written."""
    heat = {"gradcam": HeatThresholds(border_heat=0.4, diffuse_heat=0.9)}
    found = {
        "cautions": WarningThresholds(quantile=0.95, films=7, low_margin=0.1, heat=heat),
        "self_test": SelfTestSpec(file="golden.npz", cases=4, probability_tolerance=0.005, relative_tolerance=0.02),
        "sanity": SanitySpec(cases=4, correlations=(0.3, -0.1), control=(1.0, 1.0), limit=0.5),
    }
    entry = write(tmp_path)
    seal(entry, read_manifest(entry).model_copy(update=found))
    read = read_manifest(entry)
    assert {name: getattr(read, name) for name in found} == found
    assert read.sanity.passed


def test_a_manifest_from_before_there_were_examinations_is_read(tmp_path):
    """Schema version 1 stays 1: what is missing is null."""
    entry = write(tmp_path)
    path = entry / "manifest.json"
    older = {key: value for key, value in json.loads(path.read_text()).items() if key not in EXAMINATION}
    path.write_text(json.dumps(older))
    read = read_manifest(entry)
    assert [getattr(read, name) for name in EXAMINATION] == [None, None, None]


def test_a_manifest_that_was_being_written_is_no_file_of_the_entry(tmp_path):
    """What an interrupted `seal` left behind."""
    entry = write(tmp_path)
    (entry / ".manifest.json.partial").write_text("half")
    assert list(seal(entry, read_manifest(entry)).files) == ["saved_model.pb", "variables/variables.index"]
    assert not (entry / ".manifest.json.partial").exists()
