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


def auc(
    positive: np.ndarray,
    negative: np.ndarray,
    persons: tuple[Sequence[str], Sequence[str]] | None = None,
    *,
    rounds: int = 500,
) -> dict[str, Any]:
    """Area under the ROC curve of two lists of scores, with a 95 % bootstrap interval.

    `persons` says of each score of either list whose it is. Persons are drawn, each with all of their films, for films
    of one person are alike (Rutter, Acad. Radiol. 7 (2000) 413-419); without them each film is drawn for itself.
    """
    films = len(positive) + len(negative)
    if not len(positive) or not len(negative):
        return {"value": None, "low": None, "high": None, "films": films}
    named = [*persons[0], *persons[1]] if persons else range(films)
    _, person_of = np.unique(np.asarray(named), return_inverse=True)
    count = int(person_of.max()) + 1
    rng = np.random.default_rng(0)
    areas = []
    for drawn in rng.multinomial(count, np.full(count, 1 / count), rounds):
        times = drawn[person_of]
        here, there = times[: len(positive)], times[len(positive) :]
        if here.any() and there.any():
            areas.append(_area(positive, negative, here, there))
    low, high = np.quantile(areas, [0.025, 0.975])
    value = _area(positive, negative, np.ones(len(positive)), np.ones(len(negative)))
    return {"value": value, "low": float(low), "high": float(high), "films": films}


def _area(positive: np.ndarray, negative: np.ndarray, here: np.ndarray, there: np.ndarray) -> float:
    """The share of pairs that are ranked right, ties counting half; each score counts as often as it was drawn."""
    order = np.argsort(negative)
    ranked, below = negative[order], np.concatenate([[0.0], np.cumsum(there[order])])
    lower = below[np.searchsorted(ranked, positive, "left")] + below[np.searchsorted(ranked, positive, "right")]
    return float((here * lower).sum() / (2 * here.sum() * there.sum()))


def calibration_error(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal bins of the top probability (Naeini et al., AAAI 2015)."""
    return float(sum(abs(right - sure) * share for sure, right, share in reliability(probabilities, labels, bins)))


def reliability(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> list[tuple[float, float, float]]:
    """Of each bin of the top probability that holds films: mean probability, share of right answers, share of films."""
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = [bin_of == b for b in sorted(set(bin_of.tolist()))]
    return [(float(confidence[at].mean()), float(right[at].mean()), float(at.mean())) for at in filled]
