"""The figures of a comparison: answers, areas under the ROC curve, calibration and novelty, each with its interval."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.comparing.answers import ComparedAnswers
from scripts.datasets.films import Film, patient_key
from scripts.evaluation.multi_label import label_matrix
from scripts.evaluation.paired import area_statistic, calibration_statistic, mcnemar, mean_statistic, paired
from scripts.evaluation.predictions import class_indices
from scripts.evaluation.statistics import proportion

# Every pair of classes gets an area up to this number of classes; beyond it, each class only against the rest.
MAX_PAIRED_CLASSES = 6
NOTHING = "none"


def true_classes(films: Sequence[Film], classes: Sequence[str], *, multi_label: bool) -> np.ndarray:
    """Return the classes of each film according to its label, bool `[N, classes]`.

    Raises:
        DataError: a label is not a class of the model.
    """
    if multi_label:
        return label_matrix(films, classes)
    return np.arange(len(classes)) == class_indices(films, classes)[:, None]


def answer_text(found: np.ndarray, classes: Sequence[str]) -> str:
    """Write an answer, bool `[classes]`, as its class names."""
    return " | ".join(name for name, holds in zip(classes, found, strict=True) if holds) or NOTHING


def answer_figures(answers: ComparedAnswers, truth: np.ndarray) -> dict[str, Any]:
    """Count the answers that change, and how many of them become right or wrong.

    An answer is right if it is exactly the film's label: for a multi-label model, all of its classes. The share that
    changes has a Wilson score interval, the accuracies have bootstrap intervals by patient.
    """
    first, second = answers.first.found(answers.classes), answers.second.found(answers.classes)
    right, still_right = (first == truth).all(axis=-1), (second == truth).all(axis=-1)
    texts = [[answer_text(row, answers.classes) for row in found] for found in (first, second)]
    pairs = Counter(zip(*texts, strict=True)).most_common()
    pairs.sort(key=lambda item: item[0][0] == item[0][1])  # the changes first
    figures: dict[str, Any] = {
        "changed": proportion(int(answers.changed.sum()), len(first)),
        "table": [{"from": before, "to": after, "films": films} for (before, after), films in pairs],
        "accuracy": paired(mean_statistic(right), mean_statistic(still_right), _patients(answers)),
        "mcnemar": mcnemar(right, still_right),
        "became_wrong": proportion(int((right & ~still_right).sum()), len(right)),
    }
    if answers.first.manifest.task == "multi_label":
        figures["classes"] = {
            name: {
                "films": int(truth[:, i].sum()),
                "added": int((~first[:, i] & second[:, i]).sum()),
                "dropped": int((first[:, i] & ~second[:, i]).sum()),
                **mcnemar(first[:, i] == truth[:, i], second[:, i] == truth[:, i]),
            }
            for i, name in enumerate(answers.classes)
        }
    return figures


def area_figures(answers: ComparedAnswers, truth: np.ndarray) -> dict[str, Any]:
    """Compute the areas under the ROC curve of both versions, by class against the rest, and by pair of classes.

    A class is scored by its probability, a pair by p / (p + q): how probable its first class is if it is one of the
    two. Where the films lack one of the two sides, there is no area. Two classes are one pair and need one area.
    """
    classes, count = answers.classes, len(answers.classes)
    first, second = answers.first.probabilities, answers.second.probabilities
    single = answers.first.manifest.task == "single_label"
    rows: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}
    if count != 2 or not single:
        for i, name in enumerate(classes):
            rows[name if not single else f"{name} against the rest"] = (
                first[:, i],
                second[:, i],
                truth[:, i],
                ~truth[:, i],
            )
    if single and 2 <= count <= MAX_PAIRED_CLASSES:
        for i, j in itertools.combinations(range(count), 2):
            scores = _share(first, i, j), _share(second, i, j)
            rows[f"{classes[i]} against {classes[j]}"] = (*scores, truth[:, i], truth[:, j])
    patients = _patients(answers)
    return {
        name: {
            "films": [int(positive.sum()), int(negative.sum())],
            **paired(
                area_statistic(scores, positive, negative), area_statistic(other_scores, positive, negative), patients
            ),
        }
        for name, (scores, other_scores, positive, negative) in rows.items()
        if positive.any() and negative.any()
    }


def _share(probabilities: np.ndarray, i: int, j: int) -> np.ndarray:
    one, other = (probabilities[:, index].astype(np.float64) for index in (i, j))
    return one / np.maximum(one + other, np.finfo(np.float64).tiny)


def calibration_figures(answers: ComparedAnswers, truth: np.ndarray) -> dict[str, Any]:
    """Compute the expected calibration error of both versions: of the top class, or of each class if multi-label."""
    single = answers.first.manifest.task == "single_label"
    statistics = []
    for version in (answers.first, answers.second):
        right = truth[np.arange(len(truth)), version.top] if single else truth
        confidence = version.probabilities.max(axis=-1) if single else version.probabilities
        statistics.append(calibration_statistic(confidence, right))
    figures = paired(statistics[0], statistics[1], _patients(answers), pivotal=True)
    for name in ("first", "second"):
        figures[name]["low"] = max(figures[name]["low"], 0.0)  # no error is below 0, but a basic interval may be
    return figures


def novelty_figures(answers: ComparedAnswers) -> dict[str, Any] | None:
    """Count the films that each version flags as out of distribution; None unless both have a novelty score."""
    first, second = answers.first.novel, answers.second.novel
    if first is None or second is None:
        return None
    return {
        "first": proportion(int(first.sum()), len(first)),
        "second": proportion(int(second.sum()), len(second)),
        "changed": proportion(int((first != second).sum()), len(first)),
        "newly_flagged": int((~first & second).sum()),
        "no_longer_flagged": int((first & ~second).sum()),
    }


def _patients(answers: ComparedAnswers) -> list[str]:
    return [patient_key(film) for film in answers.films]
