"""Statistics with confidence intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, spearmanr

from app.arrays import Float32Array


def proportion(count: int, total: int) -> dict[str, Any]:
    """Return the proportion `count / total` with its 95 % Wilson score interval (Wilson 1927)."""
    if total == 0:
        return {"value": None, "low": None, "high": None, "films": 0}
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return {"value": count / total, "low": float(interval.low), "high": float(interval.high), "films": total}


def mean_of(values: Sequence[float] | np.ndarray, *, rounds: int = 2000) -> dict[str, Any]:
    """Return the mean of `values` with its 95 % percentile bootstrap interval (Efron 1979)."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return {"value": None, "low": None, "high": None, "films": 0}
    rng = np.random.default_rng(0)
    means = array[rng.integers(0, len(array), (rounds, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(array.mean()), "low": float(low), "high": float(high), "films": len(array)}


def mean_by_patient(values: Sequence[float | None], patients: Sequence[str]) -> dict[str, Any]:
    """Average `values` by patient, and these averages over the patients, with an interval.

    Values that are None are ignored; `patients` in the result is the number of patients that remain.
    """
    known: dict[str, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        if value is not None:
            known.setdefault(patient, []).append(value)
    figure = mean_of([float(np.mean(of_patient)) for of_patient in known.values()])
    return {"patients" if key == "films" else key: value for key, value in figure.items()}


def auc(
    positive: np.ndarray,
    negative: np.ndarray,
    patients: tuple[Sequence[str], Sequence[str]] | None = None,
    *,
    rounds: int = 500,
) -> dict[str, Any]:
    """Return the area under the ROC curve for scores of two groups, with a 95 % bootstrap interval.

    `patients` names the patient of each score, for both groups. The bootstrap then draws patients with all of their
    films, because films of one patient resemble each other (Rutter, Acad. Radiol. 7 (2000) 413-419). Without
    `patients`, it draws individual films.
    """
    films = len(positive) + len(negative)
    if not len(positive) or not len(negative):
        return {"value": None, "low": None, "high": None, "films": films}
    groups = [*patients[0], *patients[1]] if patients else range(films)
    ranking = Ranking(positive, negative)
    areas = []
    for times in patient_draws(groups, rounds):
        positive_times, negative_times = times[: len(positive)], times[len(positive) :]
        if positive_times.any() and negative_times.any():
            areas.append(ranking.area(positive_times, negative_times))
    low, high = np.quantile(areas, [0.025, 0.975])
    value = ranking.area(np.ones(len(positive)), np.ones(len(negative)))
    return {"value": value, "low": float(low), "high": float(high), "films": films}


def patient_draws(patients: Sequence[str] | range, rounds: int) -> Iterator[np.ndarray]:
    """Yield the resamples of a bootstrap by patient: how often each film is drawn, `[films]`; the same in every run.

    `patients` names the patient of each film. A resample draws as many patients as there are, each with all films.
    """
    _, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    count = int(patient_of.max()) + 1
    rng = np.random.default_rng(0)
    for drawn in rng.multinomial(count, np.full(count, 1 / count), rounds):
        yield drawn[patient_of]


class Ranking:
    """The scores of positive films ranked among those of negative ones, each `[N]`."""

    def __init__(self, positive: np.ndarray, negative: np.ndarray) -> None:
        self._order = np.argsort(negative)
        ranked = negative[self._order]
        self._lower, self._upper = (np.searchsorted(ranked, positive, side) for side in ("left", "right"))

    def area(self, positive_times: np.ndarray, negative_times: np.ndarray) -> float:
        """Return the share of pairs in the right order, where ties count half and each score as often as given."""
        below = np.concatenate([[0.0], np.cumsum(negative_times[self._order])])
        lower = below[self._lower] + below[self._upper]
        return float((positive_times * lower).sum() / (2 * positive_times.sum() * negative_times.sum()))


def rank_correlation(one: Float32Array, other: Float32Array) -> float | None:
    """Return Spearman's rank correlation of two maps, or None if one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def calibration_error(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error over equal bins of the top probability (Naeini et al., AAAI 2015)."""
    return float(
        sum(
            abs(correct - confidence) * share for confidence, correct, share in reliability(probabilities, labels, bins)
        )
    )


def reliability(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> list[tuple[float, float, float]]:
    """Return, for each bin of the top probability that holds films: mean probability, accuracy, and share of films."""
    confidence, correct = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = [bin_of == b for b in sorted(set(bin_of.tolist()))]
    return [(float(confidence[at].mean()), float(correct[at].mean()), float(at.mean())) for at in filled]
