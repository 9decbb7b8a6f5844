"""The benchmark measures what it says; how fast is never asserted."""

import json

import pytest

from scripts.benchmark import main
from scripts.errors import ScriptError
from scripts.tutorial import tutorial
from tests import models


def test_it_starts_a_server_and_reports_ratios(entry_of, tmp_path, monkeypatch, capsys):
    """A table on the terminal, and the same as JSON."""
    entry = entry_of(models.batch_norm_dropout)
    monkeypatch.setenv("LIGHTBOX_MODEL_STORE", str(entry.parent.parent))
    monkeypatch.setenv("LIGHTBOX_MODEL", entry.parent.name)
    few = ["--rounds", "2", "--requests", "20", "--memory-requests", "30", "--folder-films", "5"]
    assert main([*few, "--out", str(tmp_path / "figures.json")]) == 0
    figures = {figure["name"]: figure for figure in json.loads((tmp_path / "figures.json").read_text())}
    assert figures["bare predict"]["ratio"] == 1.0
    assert figures.keys() >= {
        "bare evidence",
        "start to ready",
        "/predict, PNG 1024²",
        "/explain, PNG 1024², PNG overlay",
        "/predict, 16 clients, JPEG 1024²",
        "scripts.explain, 5 films",
        "floor: the arithmetic of one image at that rate",
        "/predict, PNG 1024²: inference",
        "/readyz, p99 with a full queue",
        "resident memory after 30 requests",
    }
    printed = capsys.readouterr().out
    for name, figure in figures.items():
        assert figure["value"] > 0
        assert name in printed


def test_tutorial_code_needs_a_trained_model(entry_of):
    """An exported one has no Keras model to compare with."""
    with pytest.raises(ScriptError, match=r"scripts\.train"):
        tutorial(entry_of(models.batch_norm_dropout))
