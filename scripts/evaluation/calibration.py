"""Probabilities that mean what they say, and a threshold for novelty, fitted to films that a model never saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from app.arrays import Float32Array

# The share of real films that may be flagged as novel.
NOVEL_SHARE = 0.02


def temperature_of(probabilities: Float32Array, labels: np.ndarray) -> float:
    """The temperature that minimises the log loss of `probabilities` `[N, classes]` made at temperature 1.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The logarithm of a probability is its logit up to
    a constant, which softmax does not see.
    """
    logits = _logits(probabilities)

    def log_loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=-1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(log_loss, bounds=(-3, 3), method="bounded").x))


def tempered(probabilities: Float32Array, temperature: float) -> Float32Array:
    """`probabilities` `[N, classes]` made at temperature 1, at another one."""
    return np.exp(log_softmax(_logits(probabilities) / temperature, axis=-1)).astype(np.float32)


def _logits(probabilities: Float32Array) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), 1e-30))


def cross_calibrated(parts: Sequence[tuple[Float32Array, np.ndarray]]) -> list[Float32Array]:
    """Each part's probabilities at the temperature that suits all the other parts."""
    return [
        tempered(
            probabilities,
            temperature_of(
                np.concatenate([p for other, (p, _) in enumerate(parts) if other != number]),
                np.concatenate([labels for other, (_, labels) in enumerate(parts) if other != number]),
            ),
        )
        for number, (probabilities, _) in enumerate(parts)
    ]


def threshold_of(scores: Float32Array) -> float:
    """The novelty score `[N]` that all but `NOVEL_SHARE` of the films stay below."""
    return float(np.quantile(scores, 1 - NOVEL_SHARE))


def cross_scaled(parts: Sequence[Float32Array]) -> list[Float32Array]:
    """Each part's novelty scores in units of the threshold that suits all the other parts."""
    return [
        scores / threshold_of(np.concatenate([p for other, p in enumerate(parts) if other != number]))
        for number, scores in enumerate(parts)
    ]
