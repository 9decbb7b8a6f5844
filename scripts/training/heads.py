"""The regressions that become a network's head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import keras
import numpy as np
from scipy.linalg import solve
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from scripts.datasets.films import Film, folds
from scripts.training.recipe import Recipe

# What a kernel head chooses from, by the films that it is fitted to. Its width is in units of one over the features.
WIDTHS = (0.25, 0.5, 1.0)
RIDGES = (0.1, 0.3, 1.0)
_INNER_FOLDS = 4
# The score of a class that no film is of.
_NEVER = -30.0


def fit_logistic(
    head: keras.Model,
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    _films: Sequence[Film],
    recipe: Recipe,
) -> None:
    """Multinomial logistic regression on the standardised features `values` `[N, d]`."""
    regression = LogisticRegression(C=1 / (recipe.penalty * len(values)), max_iter=1000)
    regression.fit(values, labels, sample_weight=weights)
    kernel, bias = np.zeros((head.output_shape[-1], values.shape[1])), np.full(head.output_shape[-1], _NEVER)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:  # of two classes scikit-learn keeps the difference
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    head.get_layer("logits").set_weights([kernel.T, bias])


def fit_kernel(
    head: keras.Model,
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    films: Sequence[Film],
    recipe: Recipe,
) -> None:
    """Kernel ridge regression onto the classes, with a radial basis, on the standardised features `values` `[N, d]`.

    Also known as least-squares support vector machine (Suykens and Vandewalle, Neural Process. Lett. 9 (1999)
    293-300). Width and ridge are those that are right most often in an inner cross-validation, by patient, of the same
    films.
    """
    distances = cdist(values, values, "sqeuclidean") / values.shape[1]
    targets = np.eye(head.output_shape[-1])[labels]
    parts = [np.array(part) for part in folds(films, _INNER_FOLDS, recipe.seed)]

    def right_with(setting: tuple[float, float]) -> float:
        width, ridge = setting
        near = np.exp(-width * distances)
        right = 0
        for part in parts:
            rest = np.setdiff1d(np.arange(len(labels)), part)
            coefficients, bias = _dual(near[np.ix_(rest, rest)], targets[rest], weights[rest], ridge)
            answers = near[np.ix_(part, rest)] @ coefficients + bias
            right += int((answers.argmax(axis=-1) == labels[part]).sum())
        return right

    width, ridge = max(product(WIDTHS, RIDGES), key=right_with)
    coefficients, bias = _dual(np.exp(-width * distances), targets, weights, ridge)
    kernel = head.get_layer("kernel")
    centres, _ = kernel.get_weights()
    room = [np.zeros((len(centres) - len(values), size)) for size in (values.shape[1], targets.shape[1])]
    kernel.set_weights([np.concatenate([values, room[0]]), np.array(width)])
    bias[~targets.any(axis=0)] = _NEVER
    head.get_layer("logits").set_weights([np.concatenate([coefficients, room[1]]), bias])


def _dual(near: np.ndarray, targets: np.ndarray, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients `[N, classes]` of the centres, (K + λ·diag(1/w)) α = Y − mean Y, and that mean `[classes]`."""
    mean = np.average(targets, axis=0, weights=weights)
    return solve(near + ridge * np.diag(1 / weights), targets - mean, assume_a="pos"), mean
