"""Class activation maps, which turn evidence into heatmaps. NumPy only; each method is one function and one entry.

In the formulas, A denotes the features `[h, w, K]` and g = ∂(target score)/∂A their gradient `[h, w, K]`. The score is
a linear combination of logits, before the softmax, because the gradient of a softmax vanishes as p → 1. Each method
returns its map before the ReLU, in units of the score. Sums are computed in double precision, in which products of two
single-precision numbers neither overflow nor underflow.

The gradient is linear in the target: the evidence against a class has the gradient -g, and the evidence for X rather
than Y the gradient of X minus that of Y. For methods that are linear in g (`gradcam`, `hirescam`, `xgradcam`), the map
of the reversed question is therefore the negative map. This does not hold for `gradcam++` and `layercam`, which drop
negative gradients first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.arrays import Float32Array
from app.errors import QuestionError, UnknownNameError

Cam = Callable[[Float32Array, Float32Array], Float32Array]
_Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Method:
    """A CAM method.

    `raw` maps features and gradients `[h, w, K]` to the map before its ReLU, `[h, w]`. `class_specific` says whether
    the map depends on the class.
    """

    raw: Cam
    class_specific: bool = True

    def __call__(self, features: Float32Array, gradients: Float32Array) -> Float32Array:
        return self.raw(features, gradients)


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A map of the positive evidence on the feature grid.

    `values` is float32 `[h, w]` in 0..1, divided by its maximum; `raw_max` is that maximum, in units of the score. If
    no value was positive, `values` is all zeros and `raw_max` is 0.
    """

    values: Float32Array
    raw_max: float

    @property
    def empty(self) -> bool:
        return self.raw_max == 0.0


@dataclass(frozen=True, slots=True)
class HeatmapSeries:
    """The maps of T questions about one image on one scale, so that they can be compared.

    `values` is float32 `[T, h, w]` in 0..1, divided by the maximum over all maps; `raw_max` is that maximum, in units
    of the score. If no value was positive, `values` is all zeros and `raw_max` is 0.
    """

    values: Float32Array
    raw_max: float

    @property
    def empty(self) -> bool:
        return self.raw_max == 0.0


def gradcam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Compute Grad-CAM before its ReLU: Σ_k mean(g_k)·A_k, float32 `[h, w]`.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    arXiv 1610.02391, equations 1 and 2.
    """
    weights = gradients.mean(axis=(0, 1), dtype=np.float64)  # [K]
    return _single(features.astype(np.float64) @ weights)


def gradcam_plus_plus(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Compute Grad-CAM++ before its ReLU: Σ_k w_k·A_k, w_k = Σ_ij a·ReLU(g), a = g²/(2g² + g³·ΣA), float32 `[h, w]`.

    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
    WACV 2018, arXiv 1710.11063. As in the paper, Y = exp(score), so that every derivative of Y is exp(score) times a
    power of g. This factor cancels in a; w omits it, because there it only scales the map. As in the authors' code
    (github.com/adityac94/Grad_CAM_plus_plus), a denominator of 0 is replaced by 1, and a negative one, which negative
    features can cause, is kept. The division of a by its sum, which that code adds, is omitted.
    """
    a, g = features.astype(np.float64), gradients.astype(np.float64)
    square = g * g
    denominator = 2 * square + square * g * a.sum(axis=(0, 1))
    alpha = square / np.where(denominator == 0, 1.0, denominator)
    return _single(a @ (alpha * np.maximum(g, 0.0)).sum(axis=(0, 1)))


def hirescam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Compute HiResCAM before its ReLU: Σ_k g_k ⊙ A_k, float32 `[h, w]`.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020, arXiv 2011.08891. For a head that is linear in the features, the map sums to the score minus the biases.
    """
    return _single(np.einsum("hwk,hwk->hw", features, gradients, dtype=np.float64))


def xgradcam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Compute XGrad-CAM before its ReLU: Σ_k w_k·A_k, w_k = Σ_ij g·A / Σ_ij A, float32 `[h, w]`.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020, arXiv
    2008.02312. The weight of a channel that sums to 0 is undefined, and set to 0: after a ReLU such a channel is 0
    everywhere.
    """
    a = features.astype(np.float64)
    total = a.sum(axis=(0, 1))  # [K]
    shared = np.einsum("hwk,hwk->k", a, gradients, dtype=np.float64)
    return _single(a @ np.divide(shared, total, out=np.zeros_like(total), where=total != 0))


def layercam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Compute LayerCAM before its ReLU: Σ_k ReLU(g_k) ⊙ A_k, float32 `[h, w]`.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE Transactions on Image
    Processing 30 (2021) 5875-5888.
    """
    return _single(np.einsum("hwk,hwk->hw", features, np.maximum(gradients, 0), dtype=np.float64))


def eigencam(features: Float32Array, gradients: Float32Array) -> Float32Array:  # noqa: ARG001  # it needs no gradient
    """Compute Eigen-CAM before its ReLU: A·v, v the first right singular vector of A `[h·w, K]`, float32 `[h, w]`.

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020, arXiv 2008.00299.
    A is not centred. The sign of a singular vector is arbitrary; it is chosen so that the inner product of the map and
    Σ_k A_k is positive. The map shows the dominant component of the features and does not depend on the class.
    """
    height, width, depth = features.shape
    a = features.reshape(height * width, depth).astype(np.float64)
    if depth <= height * width:  # the smaller of the two Gram matrices has the same first singular vector
        component = a @ np.linalg.eigh(a.T @ a).eigenvectors[:, -1]
    else:
        values, vectors = np.linalg.eigh(a @ a.T)
        component = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    sign = -1.0 if component @ a.sum(axis=1) < 0 else 1.0
    return _single(sign * component.reshape(height, width))


METHODS: dict[str, Method] = {
    "gradcam": Method(gradcam),
    "gradcam++": Method(gradcam_plus_plus),
    "hirescam": Method(hirescam),
    "xgradcam": Method(xgradcam),
    "layercam": Method(layercam),
    "eigencam": Method(eigencam, class_specific=False),
}


def cam_method(name: str) -> Method:
    """Return the CAM method called `name`.

    Raises:
        UnknownNameError: if there is none; the message lists the available methods.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]


def check_answerable(
    name: str,
    *,
    class_name: str | None = None,
    against: str | None = None,
    counterfactual: bool = False,
    all_classes: bool = False,
) -> None:
    """Check that the method `name` can answer a question with these parameters.

    Raises:
        UnknownNameError: if there is no such method.
        QuestionError: if the method is not class-specific but the question is.
    """
    if cam_method(name).class_specific:
        return
    parameters = {
        "class": class_name is not None,
        "against": against is not None,
        "counterfactual": counterfactual,
        "all_classes": all_classes,
    }
    if unsupported := [parameter for parameter, given in parameters.items() if given]:
        available = ", ".join(other for other, method in METHODS.items() if method.class_specific)
        raise QuestionError(
            f"the method {name!r} is not class-specific and does not support {', '.join(map(repr, unsupported))}; "
            f"leave that out, or use one of: {available}"
        )


def raw_maps(method: Method, features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Return the maps of T questions about one image before their ReLU, `[T, h, w]`; `gradients` is `[T, h, w, K]`."""
    return np.stack([method(features, gradient) for gradient in gradients])


def normalise(raw: Float32Array) -> Heatmap:
    """Apply the ReLU to a map `[h, w]` and divide it by its maximum.

    This is not min-max normalisation, which would stretch a weak map into a strong one.

    Raises:
        FloatingPointError: if a value is not finite.
    """
    values, raw_max = _normalised(raw)
    return Heatmap(values, raw_max)


def normalise_together(raw: Float32Array) -> HeatmapSeries:
    """Apply the ReLU to maps `[T, h, w]` and divide them by their common maximum.

    Raises:
        FloatingPointError: if a value is not finite.
    """
    values, raw_max = _normalised(raw)
    return HeatmapSeries(values, raw_max)


def _normalised(raw: Float32Array) -> tuple[Float32Array, float]:
    if not np.isfinite(raw).all():
        raise FloatingPointError("the heatmap is not finite: the features or gradients of the model overflow")
    positive = np.maximum(raw, 0.0)
    raw_max = float(positive.max())
    if raw_max == 0.0:
        return np.zeros_like(positive), 0.0
    return (positive.astype(np.float64) / raw_max).astype(np.float32), raw_max


def _single(values: _Float64Array) -> Float32Array:
    with np.errstate(over="ignore"):  # the result is infinite, which `normalise` reports
        return values.astype(np.float32)
