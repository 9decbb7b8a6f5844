"""The benchmark measures what it says; how fast is never asserted."""

import json

import pytest

from scripts.benchmark import main
from scripts.benchmarks.measurements import sample_images
from scripts.benchmarks.tutorial import tutorial
from scripts.errors import ScriptError
from tests import models
from tests.films import write_folder


@pytest.mark.slow
@pytest.mark.process
def test_it_starts_a_server_and_reports_ratios(entry_of, tmp_path, monkeypatch, capsys):
    """It prints a table, and writes the same figures as JSON."""
    entry = entry_of(models.batch_norm_dropout)
    monkeypatch.setenv("LIGHTBOX_MODEL_STORE", str(entry.parent.parent))
    monkeypatch.setenv("LIGHTBOX_MODEL", entry.parent.name)
    few = ["--rounds", "2", "--requests", "20", "--memory-requests", "30", "--folder-films", "5"]
    folder = write_folder(tmp_path, each=2)
    assert main([*few, "--films", str(folder), "--out", str(tmp_path / "figures.json")]) == 0
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    assert figures["bare predict"]["ratio"] == 1.0
    assert figures.keys() >= {
        "bare evidence",
        "start to ready",
        "/predict, PNG 1024²",
        "/explain, PNG 1024², PNG overlay",
        "/predict, 16 clients, JPEG 1024²",
        "scripts.explain, 5 films, PNG 1024²",
        "scripts.explain, 4 films as they are",
        "the arithmetic of one image at that rate",
        "/predict, PNG 1024²: mean of inference",
        "/readyz, p99 with a full queue",
        "V2 binary, PNG 1024²",
        "resident memory after 30 requests",
    }
    printed = capsys.readouterr().out
    for name, figure in figures.items():
        # A tiny model may have answered everyone each time that somebody looks.
        assert figure["value"] > 0 or name == "requests in flight, median"
        assert name in printed


@pytest.mark.slow
@pytest.mark.process
def test_the_endurance_test_compares_the_server_with_itself(entry_of, tmp_path, monkeypatch):
    """Memory, files, threads and latency, while three versions take turns; an answer that is not right ends it."""
    entry = entry_of(models.batch_norm_dropout)
    monkeypatch.setenv("LIGHTBOX_MODEL_STORE", str(entry.parent.parent))
    monkeypatch.setenv("LIGHTBOX_MODEL", entry.parent.name)
    assert main(["--soak", "120", "--out", str(tmp_path / "figures.json")]) == 0
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    for name in ("resident memory", "open files", "open threads", "/explain p50"):
        assert figures[f"soak: {name} after 120 requests"]["of"] == "after 12"
        assert figures[f"soak: {name} after 120 requests"]["ratio"] > 0


@pytest.mark.process
def test_an_endurance_test_ends_with_the_first_wrong_answers(entry_of, monkeypatch, capsys):
    """Here the service wants a key that the test does not have."""
    entry = entry_of(models.batch_norm_dropout)
    monkeypatch.setenv("LIGHTBOX_MODEL_STORE", str(entry.parent.parent))
    monkeypatch.setenv("LIGHTBOX_MODEL", entry.parent.name)
    monkeypatch.setenv("LIGHTBOX_API_KEYS", '["secret-key-of-some-length"]')
    assert main(["--soak", "60"]) == 1
    assert "gave 401 instead of" in capsys.readouterr().err


def test_without_films_it_makes_some():
    """They are seeded, so that two runs send the same."""
    first, again = sample_images(None, 2), sample_images(None, 2)
    assert [film.size for film in first] == [(1024, 1024)] * 2
    assert [film.tobytes() for film in first] == [film.tobytes() for film in again]


def test_tutorial_code_needs_a_trained_model(entry_of):
    """One that was only exported has no Keras model to compare with."""
    with pytest.raises(ScriptError, match=r"scripts\.train"):
        tutorial(entry_of(models.batch_norm_dropout))
