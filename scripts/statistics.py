"""Figures with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from app.arrays import Float32Array


def proportion(count: int, total: int) -> dict[str, Any]:
    """A proportion with its Wilson score interval (Wilson 1927) at 95 %."""
    if total == 0:
        return {"value": None, "low": None, "high": None, "films": 0}
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return {"value": count / total, "low": float(interval.low), "high": float(interval.high), "films": total}


def mean_of(values: Sequence[float] | np.ndarray, *, rounds: int = 2000) -> dict[str, Any]:
    """A mean with its 95 % percentile bootstrap interval (Efron 1979)."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return {"value": None, "low": None, "high": None, "films": 0}
    rng = np.random.default_rng(0)
    means = array[rng.integers(0, len(array), (rounds, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(array.mean()), "low": float(low), "high": float(high), "films": len(array)}


def auc(positive: np.ndarray, negative: np.ndarray, *, rounds: int = 500) -> dict[str, Any]:
    """Area under the ROC curve of two lists of scores, with a 95 % bootstrap interval over both."""
    films = len(positive) + len(negative)
    if not len(positive) or not len(negative):
        return {"value": None, "low": None, "high": None, "films": films}

    rng = np.random.default_rng(0)
    areas = [_area(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(rounds)]
    low, high = np.quantile(areas, [0.025, 0.975])
    return {"value": _area(positive, negative), "low": float(low), "high": float(high), "films": films}


def _area(positive: np.ndarray, negative: np.ndarray) -> float:
    """The share of pairs that are ranked right, ties counting half: a tenth of the time of building the curve."""
    ranked = np.sort(negative)
    below = np.searchsorted(ranked, positive, "left") + np.searchsorted(ranked, positive, "right")
    return float(below.mean() / 2 / len(ranked))


def calibration_error(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal bins of the top probability (Naeini et al., AAAI 2015)."""
    return float(sum(abs(right - sure) * share for sure, right, share in reliability(probabilities, labels, bins)))


def reliability(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> list[tuple[float, float, float]]:
    """Of each bin of the top probability that holds films: mean probability, share of right answers, share of films."""
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = [bin_of == b for b in sorted(set(bin_of.tolist()))]
    return [(float(confidence[at].mean()), float(right[at].mean()), float(at.mean())) for at in filled]
