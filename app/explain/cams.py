"""Evidence to heatmap: class activation maps, NumPy only. One function and one registry entry per method.

Throughout, A are the features `[h, w, K]`, g = ∂(target score)/∂A their gradient `[h, w, K]`, Z = h·w, and the score
is a combination of logits, before softmax: the gradient of a softmax vanishes as p → 1. A method gives its map before
the ReLU, in the score's units; sums run in double precision, in which no product of single ones over- or underflows.

A question is a target, and its gradient linear in it: what speaks against a class has the gradient -g, and why X and
not Y that of X less that of Y. Methods that are linear in g (`gradcam`, `hirescam`, `xgradcam`) therefore answer the
reversed question by the negative map; `gradcam++` and `layercam`, which drop negative gradients first, do not.
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
    """A CAM method: `raw` maps features and gradients `[h, w, K]` to the map before its ReLU, `[h, w]`.

    `class_specific` says whether it answers a question about a class at all.
    """

    raw: Cam
    class_specific: bool = True

    def __call__(self, features: Float32Array, gradients: Float32Array) -> Float32Array:
        return self.raw(features, gradients)


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


@dataclass(frozen=True, slots=True)
class HeatmapSeries:
    """Maps of several questions about one image on one scale, so that they can be compared.

    `values` is float32 `[T, h, w]` in 0..1, divided by the maximum over all of them; `raw_max` is that maximum, in
    units of the score. Where no value was positive, `values` is all zeros and `raw_max` 0.
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
    return _single(features.astype(np.float64) @ weights)


def gradcam_plus_plus(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """Grad-CAM++ before its ReLU: Σ_k w_k·A_k, w_k = Σ_ij a·ReLU(g), a = g²/(2g² + g³·ΣA), float32 `[h, w]`.

    Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks",
    WACV 2018, arXiv 1710.11063. With Y = exp(score), as there, every derivative of Y is exp(score) times a power of g:
    the factor cancels in a, and is left out of w, where it only scales the map. A denominator of 0 is taken as 1, and
    a negative one, which features below 0 can give, is kept: so does the authors' own code
    (github.com/adityac94/Grad_CAM_plus_plus), whose further division of a by its sum is left out.
    """
    a, g = features.astype(np.float64), gradients.astype(np.float64)
    square = g * g
    denominator = 2 * square + square * g * a.sum(axis=(0, 1))
    alpha = square / np.where(denominator == 0, 1.0, denominator)
    return _single(a @ (alpha * np.maximum(g, 0.0)).sum(axis=(0, 1)))


def hirescam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """HiResCAM before its ReLU: Σ_k g_k ⊙ A_k, float32 `[h, w]`.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020, arXiv 2011.08891. For a head that is linear at the features its sum is the score less the biases.
    """
    return _single(np.einsum("hwk,hwk->hw", features, gradients, dtype=np.float64))


def xgradcam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """XGrad-CAM before its ReLU: Σ_k w_k·A_k, w_k = Σ_ij g·A / Σ_ij A, float32 `[h, w]`.

    Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020,
    arXiv 2008.02312. A channel that sums to 0 has no such weight, and gets 0: after a ReLU it is 0
    everywhere.
    """
    a = features.astype(np.float64)
    total = a.sum(axis=(0, 1))  # [K]
    shared = np.einsum("hwk,hwk->k", a, gradients, dtype=np.float64)
    return _single(a @ np.divide(shared, total, out=np.zeros_like(total), where=total != 0))


def layercam(features: Float32Array, gradients: Float32Array) -> Float32Array:
    """LayerCAM before its ReLU: Σ_k ReLU(g_k) ⊙ A_k, float32 `[h, w]`.

    Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE Transactions on Image
    Processing 30 (2021) 5875-5888.
    """
    return _single(np.einsum("hwk,hwk->hw", features, np.maximum(gradients, 0), dtype=np.float64))


def eigencam(features: Float32Array, gradients: Float32Array) -> Float32Array:  # noqa: ARG001  # it needs no gradient
    """Eigen-CAM before its ReLU: A·v, v the first right-singular vector of A as `[h·w, K]`, float32 `[h, w]`.

    Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020, arXiv 2008.00299.
    A is not centred. A singular vector has no sign of its own: it is chosen so that the map and Σ_k A_k
    have a positive inner product. It shows what the features have most of, whichever class is asked about.
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
    """The method registered under `name`.

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]


def refuse_unanswerable(
    name: str,
    *,
    class_name: str | None = None,
    against: str | None = None,
    counterfactual: bool = False,
    all_classes: bool = False,
) -> None:
    """See that the method `name` can answer what is asked of it.

    Raises:
        UnknownNameError: there is no such method.
        QuestionError: it has no class, and the question does.
    """
    if cam_method(name).class_specific:
        return
    asked = {
        "class": class_name is not None,
        "against": against is not None,
        "counterfactual": counterfactual,
        "all_classes": all_classes,
    }
    if refused := [parameter for parameter, given in asked.items() if given]:
        able = ", ".join(other for other, method in METHODS.items() if method.class_specific)
        raise QuestionError(
            f"method {name!r} has no class, so it can't answer {', '.join(map(repr, refused))}; leave that out, or "
            f"take one of: {able}"
        )


def raw_maps(method: Method, features: Float32Array, gradients: Float32Array) -> Float32Array:
    """The maps of T questions about one image before their ReLU, `[T, h, w]`; `gradients` is `[T, h, w, K]`."""
    return np.stack([method(features, gradient) for gradient in gradients])


def normalise(raw: Float32Array) -> Heatmap:
    """ReLU, then division by the maximum (not min-max: a weak map must not be stretched into a strong one)."""
    values, raw_max = _normalised(raw)
    return Heatmap(values, raw_max)


def normalise_together(raw: Float32Array) -> HeatmapSeries:
    """ReLU, then division of all maps `[T, h, w]` by the one maximum over them."""
    values, raw_max = _normalised(raw)
    return HeatmapSeries(values, raw_max)


def _normalised(raw: Float32Array) -> tuple[Float32Array, float]:
    if not np.isfinite(raw).all():
        raise FloatingPointError("the map is not finite: the model's features or gradients overflow")
    positive = np.maximum(raw, 0.0)
    raw_max = float(positive.max())
    if raw_max == 0.0:
        return np.zeros_like(positive), 0.0
    return (positive.astype(np.float64) / raw_max).astype(np.float32), raw_max


def _single(values: _Float64Array) -> Float32Array:
    with np.errstate(over="ignore"):  # becomes infinite, which `normalise` refuses with its reason
        return values.astype(np.float32)
