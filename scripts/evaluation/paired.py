"""Two models on the same films: figures of both and their difference, with paired intervals.

Both models are judged on the same resamples, so that what makes a film hard for both cancels in the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from scripts.evaluation.statistics import Ranking, patient_draws

ROUNDS = 1000
# A figure of films of which each counts as often as the weights `[N]` say, or NaN if they leave it undefined.
Statistic = Callable[[np.ndarray], float]


def paired(
    first: Statistic, second: Statistic, patients: Sequence[str], *, pivotal: bool = False, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Return a figure of two models, and the second's minus the first's, with 95 % bootstrap intervals by patient.

    The intervals are percentile intervals; if `pivotal`, they are basic intervals (Davison and Hinkley, "Bootstrap
    Methods and their Application", 1997, section 5.2), which suit statistics that resampling biases. Resamples that
    leave a figure undefined are dropped.

    Args:
        first: the figure of the first model; defined on all films.
        second: that of the second model.
        patients: the patient of each film, `[N]`.
        pivotal: whether resamples of the figures are biased.
        rounds: the number of resamples.
    """
    draws = np.array([(first(times), second(times)) for times in patient_draws(patients, rounds)])
    draws = draws[np.isfinite(draws).all(axis=1)]
    once = np.ones(len(patients))
    values = {"first": first(once), "second": second(once)}
    values["difference"] = values["second"] - values["first"]
    drawn = {"first": draws[:, 0], "second": draws[:, 1], "difference": draws[:, 1] - draws[:, 0]}
    return {name: _with_interval(value, drawn[name], pivotal=pivotal) for name, value in values.items()}


def _with_interval(value: float, drawn: np.ndarray, *, pivotal: bool) -> dict[str, Any]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    if pivotal:
        low, high = 2 * value - high, 2 * value - low
    return {"value": float(value), "low": float(low), "high": float(high)}


def mean_statistic(values: np.ndarray) -> Statistic:
    """Return the statistic that is the mean of `values` `[N]`."""
    return lambda times: float(np.average(values, weights=times))


def area_statistic(scores: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> Statistic:
    """Return the statistic that is the area under the ROC curve of `scores` `[N]`.

    The masks `positive` and `negative`, bool `[N]`, select the two groups of films.
    """
    ranking = Ranking(scores[positive], scores[negative])

    def area(times: np.ndarray) -> float:
        above, below = times[positive], times[negative]
        return ranking.area(above, below) if above.any() and below.any() else float("nan")

    return area


def calibration_statistic(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Statistic:
    """Return the statistic that is the expected calibration error over equal bins (Naeini et al., AAAI 2015).

    `confidence` and `correct` are `[N]`, or `[N, classes]`; then the result is the mean over the classes, the classwise
    error of Kull et al., "Beyond temperature scaling", NeurIPS 2019. Every resample raises the error, because its noise
    counts as miscalibration.
    """
    confidence, correct = confidence.reshape(len(confidence), -1), correct.reshape(len(correct), -1)
    classes = confidence.shape[1]
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1) + bins * np.arange(classes)
    gaps = correct - confidence

    def error(times: np.ndarray) -> float:
        total = np.bincount(bin_of.ravel(), (times[:, None] * gaps).ravel(), bins * classes)
        return float(np.abs(total).sum() / (times.sum() * classes))

    return error


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compare what two models get right, bool `[N]` each, by McNemar's test in its exact form.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947) 153-157. The test counts films as independent, even those of one patient.

    Returns:
        How many films became right and how many became wrong, and the two-sided p-value of as many if both were as
        likely; 1 if neither happened.
    """
    right, wrong = int((second & ~first).sum()), int((first & ~second).sum())
    p_value = float(binomtest(right, right + wrong).pvalue) if right + wrong else 1.0
    return {"became_right": right, "became_wrong": wrong, "p_value": p_value}
