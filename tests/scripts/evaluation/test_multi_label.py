"""The evaluation of a multi-label model, against figures worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.datasets.films import Film
from scripts.errors import DataError
from scripts.evaluation.multi_label import class_figures, evaluate_multi_label, label_matrix
from tests.doubles import BrightnessRuntime, manifest

CLASSES = ("dark", "middle", "bright")


def film(label, path="x.png"):
    return Film(Path(path), label)


def test_a_label_names_all_classes_that_hold():
    """As in the tables of NIH ChestX-ray14."""
    films = [film("dark|bright"), film("bright | middle"), film("No Finding"), film("")]
    assert label_matrix(films, CLASSES).tolist() == [
        [True, False, True],
        [False, True, True],
        [False, False, False],
        [False, False, False],
    ]


def test_a_class_may_be_called_no_finding():
    """Then it is one like any other."""
    assert label_matrix([film("No Finding"), film("dark")], ("dark", "No Finding")).tolist() == [
        [False, True],
        [True, False],
    ]


def test_a_label_of_no_class_is_refused():
    """With its name."""
    with pytest.raises(DataError, match="Hernia"):
        label_matrix([film("dark|Hernia")], CLASSES)


def test_the_figures_of_a_class():
    """Of three positives two are at or above the threshold; of two negatives one; five of six pairs are in order."""
    truth = np.array([True, True, True, False, False])
    probabilities = np.array([0.9, 0.5, 0.3, 0.2, 0.5], np.float32)
    figures = class_figures(truth, probabilities, 0.5, list("abcde"))
    assert figures["films"] == 3
    assert figures["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert figures["specificity"]["value"] == pytest.approx(1 / 2)
    assert figures["auc"]["value"] == pytest.approx((2 + 1.5 + 1) / 6)


def test_a_folder_is_evaluated_with_a_report(tmp_path):
    """The double calls a white image bright with 0.8, and everything else with 0.1."""
    films = []
    for number, (level, label) in enumerate([(255, "bright|middle"), (255, "bright"), (0, "No Finding"), (0, "dark")]):
        path = tmp_path / f"{number}.png"
        Image.new("L", (20, 20), level).save(path)
        films.append(film(label, path))
    runtime = BrightnessRuntime(manifest().model_copy(update={"task": "multi_label"}))
    figures = evaluate_multi_label(runtime, films, tmp_path / "report")
    assert figures["classes"]["bright"]["auc"]["value"] == 1.0
    assert figures["classes"]["dark"]["sensitivity"]["value"] == 1.0
    assert figures["classes"]["dark"]["specificity"]["value"] == pytest.approx(2 / 3)
    assert figures["no_label"] == 1
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == figures
    assert "bright" in (tmp_path / "report" / "report.html").read_text()
