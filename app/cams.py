"""Evidence to heatmap: class activation maps, NumPy only. One function and one registry entry per method.

Throughout, A are the features `[h, w, K]`, g = ∂(target score)/∂A their gradient `[h, w, K]`, Z = h·w, and the score
is a combination of logits, before softmax: the gradient of a softmax vanishes as p → 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array
from app.errors import UnknownNameError

Cam = Callable[[Float32Array, Float32Array], Float32Array]


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A map of positive evidence, as the network's feature grid has it.

    `values` is float32 `[h, w]` in 0..1, divided by its own maximum; `raw_max` is that maximum, in units of the score.
    Where no value was positive, `values` is all zeros and `raw_max` 0.
    """

    values: Float32Array
    raw_max: float

    @property
    def empty(self) -> bool:
        return self.raw_max == 0.0


def gradcam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Grad-CAM before its ReLU: Σ_k mean(g_k)·A_k, float32 `[h, w]`.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    arXiv 1610.02391, equations 1 and 2.
    """
    weights = gradients.mean(axis=(0, 1), dtype=np.float64)  # [K]
    return (features.astype(np.float64) @ weights).astype(np.float32)


METHODS: dict[str, Cam] = {"gradcam": gradcam}


def cam_method(name: str) -> Cam:
    """The method registered under `name`.

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]


def normalise(raw: Float32Array) -> Heatmap:
    """ReLU, then division by the maximum (not min-max: a weak map must not be stretched into a strong one)."""
    if not np.isfinite(raw).all():
        raise FloatingPointError("the map is not finite: the model's features or gradients overflow")
    positive = np.maximum(raw, 0.0)
    raw_max = float(positive.max())
    if raw_max == 0.0:
        return Heatmap(np.zeros_like(positive), 0.0)
    return Heatmap((positive.astype(np.float64) / raw_max).astype(np.float32), raw_max)
