"""Evaluation of an artefact on a data folder."""

import re

from scripts.evaluate import main


def test_evaluate_judges_any_artefact_on_any_folder(data, trained_run, tmp_path, capsys):
    """The films that a model gets wrong are shown with their heatmaps on a page of their own, not in the report."""
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    text = (data / "metadata.csv").read_text()
    (swapped / "metadata.csv").write_text(text.replace("bright", "x").replace("dark", "bright").replace("x", "dark"))
    for film in data.glob("*.png"):
        (swapped / film.name).write_bytes(film.read_bytes())
    out = tmp_path / "out"
    assert main(["--model", str(trained_run.entry), "--data", str(swapped), "--out", str(out)]) == 0
    assert "accuracy 0.000" in capsys.readouterr().out
    gallery = (out / "films" / "index.html").read_text()
    assert gallery.count("data:image/jpeg;base64,") == 40 * 3
    assert "bright predicted as dark" in gallery
    report = (out / "report.html").read_text()
    assert "data:image" not in report
    assert not re.search(r"(src|href)=.?(https?:)?//", report)
