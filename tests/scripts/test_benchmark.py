"""The benchmark measures what it says; how fast is never asserted."""

import json

from scripts.benchmark import main
from tests import models


def test_it_starts_a_server_and_reports_ratios(entry_of, tmp_path, monkeypatch, capsys):
    """A table on the terminal, and the same as JSON."""
    entry = entry_of(models.batch_norm_dropout)
    monkeypatch.setenv("LIGHTBOX_MODEL_STORE", str(entry.parent.parent))
    monkeypatch.setenv("LIGHTBOX_MODEL", entry.parent.name)
    assert main(["--rounds", "2", "--out", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [figure["name"] for figure in figures][:2] == ["bare predict", "/predict, PNG 1024²"]
    assert figures[0]["ratio"] == 1.0
    printed = capsys.readouterr().out
    for figure in figures:
        assert figure["milliseconds"] > 0
        assert figure["name"] in printed
