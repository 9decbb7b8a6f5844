"""Regressions that provide the weights of a network's head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import keras
import numpy as np
from scipy.linalg import eigh, solve
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from scripts.datasets.films import Film, patient_folds
from scripts.training.recipe import Recipe

# The values among which `fit_kernel` chooses. A width is in units of one over the number of features.
WIDTHS = (0.25, 0.5, 1.0)
RIDGES = (0.1, 0.3, 1.0)
_INNER_FOLDS = 4
# The logit of a class without training films.
_NEVER = -30.0


def fit_logistic(
    head: keras.Model,
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    _films: Sequence[Film],
    recipe: Recipe,
) -> None:
    """Set the logits layer of `head` by multinomial logistic regression on the standardised features `values` `[N, d]`.

    `labels` and `weights` are `[N]`. A class without films gets a logit that is never the highest.
    """
    coordinates, directions = _principal_axes(values)
    regression = LogisticRegression(C=1 / (recipe.penalty * len(values)), max_iter=1000)
    regression.fit(coordinates, labels, sample_weight=weights)
    kernel, bias = np.zeros((head.output_shape[-1], values.shape[1])), np.full(head.output_shape[-1], _NEVER)
    coefficients, intercepts = regression.coef_ @ directions, regression.intercept_
    if len(coefficients) == 1:  # for two classes, scikit-learn returns only their difference
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    head.get_layer("logits").set_weights([kernel.T, bias])


def _principal_axes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates `[N, r]` of `values` `[N, d]` in an orthonormal basis `[r, d]` of their span.

    A penalty on the length of the coefficients is the same in every such basis, and their optimum lies in the span of
    the values, so the regression is the same, and faster where there are fewer values than dimensions.
    """
    if values.shape[0] >= values.shape[1]:
        return values, np.eye(values.shape[1])
    squares, vectors = eigh(values @ values.T)
    kept = squares > squares[-1] * 1e-12
    directions = (vectors[:, kept] / np.sqrt(squares[kept])).T @ values
    return vectors[:, kept] * np.sqrt(squares[kept]), directions


def fit_kernel(
    head: keras.Model,
    values: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    films: Sequence[Film],
    recipe: Recipe,
) -> None:
    """Set the layers of `head` by kernel ridge regression on the standardised features `values` `[N, d]`.

    The kernel is a radial basis function, and the targets are the one-hot classes; this is also known as a
    least-squares support vector machine (Suykens and Vandewalle, Neural Process. Lett. 9 (1999) 293-300). An inner
    cross-validation of the same films, by patient, chooses the width and the ridge with the highest accuracy.
    """
    distances = cdist(values, values, "sqeuclidean") / values.shape[1]
    targets = np.eye(head.output_shape[-1])[labels]
    inner_folds = [np.array(fold) for fold in patient_folds(films, _INNER_FOLDS, recipe.seed)]

    def count_correct(setting: tuple[float, float]) -> int:
        width, ridge = setting
        gram = np.exp(-width * distances)
        correct = 0
        for fold in inner_folds:
            rest = np.setdiff1d(np.arange(len(labels)), fold)
            coefficients, bias = _solve_ridge(gram[np.ix_(rest, rest)], targets[rest], weights[rest], ridge)
            scores = gram[np.ix_(fold, rest)] @ coefficients + bias
            correct += int((scores.argmax(axis=-1) == labels[fold]).sum())
        return correct

    width, ridge = max(product(WIDTHS, RIDGES), key=count_correct)
    coefficients, bias = _solve_ridge(np.exp(-width * distances), targets, weights, ridge)
    kernel = head.get_layer("kernel")
    centres, _ = kernel.get_weights()
    # The layer has a centre for each film of the data set; the unused ones get coefficients of 0.
    unused = [np.zeros((len(centres) - len(values), size)) for size in (values.shape[1], targets.shape[1])]
    kernel.set_weights([np.concatenate([values, unused[0]]), np.array(width)])
    bias[~targets.any(axis=0)] = _NEVER
    head.get_layer("logits").set_weights([np.concatenate([coefficients, unused[1]]), bias])


def _solve_ridge(
    gram: np.ndarray, targets: np.ndarray, weights: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Solve (K + λ·diag(1/w)) α = Y − mean Y; returns the coefficients α `[N, classes]` and the mean `[classes]`."""
    mean = np.average(targets, axis=0, weights=weights)
    return solve(gram + ridge * np.diag(1 / weights), targets - mean, assume_a="pos"), mean
