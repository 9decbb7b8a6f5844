"""Calibrated probabilities and the novelty threshold, fitted on films that the model was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from app.arrays import Float32Array

# The share of genuine films that the novelty threshold may flag.
NOVEL_SHARE = 0.02


def temperature_of(probabilities: Float32Array, labels: np.ndarray) -> float:
    """Return the temperature that minimises the log loss of `probabilities` `[N, classes]`, given at temperature 1.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The logarithm of a probability is the logit up
    to a constant, and softmax ignores constants.
    """
    logits = _logits(probabilities)

    def log_loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=-1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-3, 3), method="bounded").x))


def tempered(probabilities: Float32Array, temperature: float) -> Float32Array:
    """Return `probabilities` `[N, classes]`, given at temperature 1, at another temperature."""
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=-1)).astype(np.float32)


def _logits(probabilities: Float32Array) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), 1e-30))


def cross_calibrated(folds: Sequence[tuple[Float32Array, np.ndarray]]) -> list[Float32Array]:
    """Return the probabilities of each fold at the temperature fitted on all other folds.

    Each fold is a pair of probabilities `[N, classes]` and labels `[N]`.
    """
    return [
        tempered(
            probabilities,
            temperature_of(
                np.concatenate([p for other, (p, _) in enumerate(folds) if other != number]),
                np.concatenate([labels for other, (_, labels) in enumerate(folds) if other != number]),
            ),
        )
        for number, (probabilities, _) in enumerate(folds)
    ]


def threshold_of(scores: Float32Array) -> float:
    """Return the threshold that all but a share of `NOVEL_SHARE` of the novelty scores `[N]` stay below."""
    return float(np.quantile(scores, 1 - NOVEL_SHARE))


def cross_scaled(folds: Sequence[Float32Array]) -> list[Float32Array]:
    """Return the novelty scores of each fold divided by the threshold fitted on all other folds."""
    return [
        scores / threshold_of(np.concatenate([p for other, p in enumerate(folds) if other != number]))
        for number, scores in enumerate(folds)
    ]
