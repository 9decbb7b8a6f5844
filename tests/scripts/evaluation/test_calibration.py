"""Temperatures and thresholds."""

import numpy as np
import pytest

from scripts.evaluation.calibration import cross_calibrated, cross_scaled, temperature_of, tempered, threshold_of
from scripts.evaluation.statistics import calibration_error


def overconfident(count, factor, seed=0):
    """Probabilities whose logits are `factor` times too large, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    wrong = np.exp(factor * logits) / np.exp(factor * logits).sum(axis=-1, keepdims=True)
    labels = (right.cumsum(axis=-1) > rng.random((count, 1))).argmax(axis=-1)
    return wrong.astype(np.float32), labels


def test_temperature_undoes_overconfidence():
    """Logits three times too large ask for a temperature of three."""
    assert temperature_of(*overconfident(20_000, 3)) == pytest.approx(3, rel=0.05)


def test_tempering_does_not_change_the_ranking():
    """It changes how sure, not which."""
    probabilities, _ = overconfident(100, 2)
    assert (tempered(probabilities, 2.5).argmax(axis=-1) == probabilities.argmax(axis=-1)).all()
    np.testing.assert_allclose(tempered(probabilities, 2.5).sum(axis=-1), 1, rtol=1e-6)


def test_parts_are_calibrated_by_the_others():
    """The error falls, without a part having seen its own labels."""
    parts = [overconfident(4000, 3, seed) for seed in range(3)]
    before = calibration_error(parts[0][0], parts[0][1])
    after = calibration_error(cross_calibrated(parts)[0], parts[0][1])
    assert before > 0.1
    assert after < 0.03


def test_novelty_is_scaled_by_the_threshold_of_the_others():
    """A part of its own kind stands out, its own scores notwithstanding."""
    ordinary = [np.linspace(0, 1, 500, dtype=np.float32) for _ in range(2)]
    first, _, strange = cross_scaled([*ordinary, np.full(10, 5.0, np.float32)])
    assert (strange > 1).all()
    assert (first[:490] < 1).all()
    assert threshold_of(np.linspace(0, 1, 1001, dtype=np.float32)) == pytest.approx(0.98, abs=0.01)
