"""Figures with their uncertainty, against values from the literature or by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.evaluation.statistics import auc, calibration_error, mean_of, proportion, reliability


def test_wilsons_interval():
    """10 of 20: 0.299 to 0.701 (Newcombe 1998 gives the method's values for small counts)."""
    figure = proportion(10, 20)
    assert figure["value"] == 0.5
    assert (figure["low"], figure["high"]) == (pytest.approx(0.2993, abs=1e-3), pytest.approx(0.7007, abs=1e-3))


def test_nothing_has_no_proportion():
    """Not zero."""
    assert proportion(0, 0)["value"] is None
    assert mean_of([])["value"] is None
    assert auc(np.array([]), np.array([1.0]))["value"] is None


def test_a_mean_lies_in_its_interval_which_narrows_with_films():
    """By about the root of their number."""
    rng = np.random.default_rng(0)
    few, many = (mean_of(rng.normal(3, 1, count)) for count in (20, 2000))
    assert few["low"] < few["value"] < few["high"]
    assert many["high"] - many["low"] < 0.2 * (few["high"] - few["low"])


def test_area_under_the_curve():
    """The share of pairs that are ranked right: 5 of 6."""
    assert auc(np.array([0.9, 0.4]), np.array([0.1, 0.2, 0.5]))["value"] == pytest.approx(5 / 6)
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 300), rng.random(300) < 0.3
    assert auc(scores[labels], scores[~labels])["value"] == pytest.approx(roc_auc_score(labels, scores))


def test_copies_of_a_film_add_no_certainty():
    """Ten films of each of thirty patients, all alike: drawn by patient, the interval is that of thirty films."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.5, 1, 15), rng.normal(0, 1, 15)
    names = [f"p{i}" for i in range(30)]
    once = auc(positive, negative, (names[:15], names[15:]))
    copied = np.repeat(positive, 10), np.repeat(negative, 10)
    by_patient = auc(*copied, (np.repeat(names[:15], 10).tolist(), np.repeat(names[15:], 10).tolist()))
    by_film = auc(*copied)
    assert by_patient["value"] == pytest.approx(once["value"])
    assert by_patient["low"] == pytest.approx(once["low"])
    assert by_patient["high"] == pytest.approx(once["high"])
    assert by_film["high"] - by_film["low"] < 0.5 * (by_patient["high"] - by_patient["low"])


def test_calibration_error_by_hand():
    """Four answers at 0.75, three of them right: none. Four at 0.75, all right: a quarter."""
    sure = np.tile(np.array([0.75, 0.25], np.float32), (4, 1))
    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0, 0, 0, 0])) == pytest.approx(0.25)
    assert reliability(sure, np.array([0, 0, 0, 0])) == [(0.75, 1.0, 1.0)]
