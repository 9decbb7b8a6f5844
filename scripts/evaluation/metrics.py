"""Classification metrics of a model: overall, by class and by source."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_curve

from scripts.datasets.films import patient_key
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.statistics import auc, calibration_error, proportion, reliability


def compute_metrics(predictions: Predictions) -> dict[str, Any]:
    """Compute accuracy, metrics by class and by source, and curves, with 95 % intervals where they apply."""
    classes = list(range(len(predictions.classes)))
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.labels, predictions.predicted, labels=classes, zero_division=0.0
    )
    correct = predictions.correct
    return {
        "accuracy": proportion(int(correct.sum()), len(correct)),
        "classes": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "films": int(support[i]),
                **_one_against_rest(predictions, i),
            }
            for i, name in enumerate(predictions.classes)
        },
        "confusion": confusion_matrix(predictions.labels, predictions.predicted, labels=classes).tolist(),
        "calibration_error": calibration_error(predictions.probabilities, predictions.labels),
        "reliability": reliability(predictions.probabilities, predictions.labels),
        "sources": _by_source(predictions),
    }


def _one_against_rest(predictions: Predictions, index: int) -> dict[str, Any]:
    positive, called = predictions.labels == index, predictions.predicted == index
    scores = predictions.probabilities[:, index]
    figures: dict[str, Any] = {
        "sensitivity": proportion(int((called & positive).sum()), int(positive.sum())),
        "specificity": proportion(int((~called & ~positive).sum()), int((~positive).sum())),
        "auc": area_by_patient(predictions, scores, positive, ~positive),
    }
    if positive.any() and not positive.all():
        false_rate, true_rate, _ = roc_curve(positive, scores)
        points = np.linspace(0, len(false_rate) - 1, min(len(false_rate), 100)).astype(int)
        figures["roc"] = [[round(float(false_rate[i]), 4), round(float(true_rate[i]), 4)] for i in points]
    return figures


def _by_source(predictions: Predictions) -> dict[str, Any]:
    """Compute, within each source, the accuracy and the AUC of each class against the first.

    Within a source, a model gains nothing from recognising the source.
    """
    first = predictions.classes[0]
    labels, probabilities = predictions.labels, predictions.probabilities
    figures = {}
    for source in sorted({film.source for film in predictions.films}):
        inside = np.array([film.source == source for film in predictions.films])
        counts = {name: int((inside & (labels == i)).sum()) for i, name in enumerate(predictions.classes)}
        areas = {
            f"{name} against {first}": area_by_patient(
                predictions, probabilities[:, i], inside & (labels == i), inside & (labels == 0)
            )
            for i, name in enumerate(predictions.classes)
            if i and counts[name] and counts[first]
        }
        if len(areas) > 1:
            areas[f"any other against {first}"] = area_by_patient(
                predictions, -probabilities[:, 0], inside & (labels > 0), inside & (labels == 0)
            )
        figures[source or "unknown"] = {
            "accuracy": proportion(int(predictions.correct[inside].sum()), int(inside.sum())),
            "films": counts,
            "auc": areas,
        }
    return figures


def area_by_patient(
    predictions: Predictions, scores: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> dict[str, Any]:
    """Compute the AUC of `scores` `[N]` for two groups of films, each given by a mask `[N]`."""
    patients = np.array([patient_key(film) for film in predictions.films])
    return auc(scores[positive], scores[negative], (patients[positive].tolist(), patients[negative].tolist()))


def without_curves(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures without the points of their curves, as the manifest stores them."""
    classes = {
        name: {key: value for key, value in row.items() if key != "roc"} for name, row in figures["classes"].items()
    }
    return {key: value for key, value in figures.items() if key != "reliability"} | {"classes": classes}
