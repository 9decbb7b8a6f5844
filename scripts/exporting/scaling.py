"""Warnings about models that seem to get pixels in a different range than in their training."""

from __future__ import annotations

import numpy as np

from app.arrays import Float32Array, UInt8Array
from scripts.exporting.flat_graph import FlatGraph, Step
from scripts.exporting.own_answers import OwnAnswers
from scripts.exporting.preprocessing import Preprocessing

_SCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide")
# Probabilities that differ by less than the first number are equal; those that differ by more than the second are not.
_SAME, _OTHER = 0.01, 0.05


def scaling_warnings(
    graph: FlatGraph, preprocessing: Preprocessing, answers: Float32Array, rescaled: OwnAnswers, probes: UInt8Array
) -> list[str]:
    """Return warnings about the chosen preprocessing.

    Args:
        graph: the model.
        preprocessing: the chosen preprocessing.
        answers: the outputs of the original model for `probes` with this preprocessing, `[N, ...]`.
        rescaled: the outputs of the model for pixels scaled to 0..1.
        probes: a variety of test images.
    """
    found = []
    own = [step.path for step in _before_the_first_kernel(graph) if step.kind in _SCALING]
    if own and preprocessing not in ("none", "bgr"):
        found.append(
            f"layer {own[0]!r} already scales the input of the model, and --preprocessing scales it again; "
            "consider --preprocessing none"
        )
    varied = probes.reshape(len(probes), -1).std(axis=-1) > 0  # black is the same in any range
    if (
        preprocessing == "none"
        and not own
        and _range(answers[varied]) < _SAME
        and _range(rescaled(probes[varied])) > _OTHER
    ):
        found.append(
            "the outputs of the model are the same for all images with pixels 0..255, but differ with 0..1; "
            "consider --preprocessing rescale"
        )
    return found


def _before_the_first_kernel(graph: FlatGraph) -> list[Step]:
    weighted = (number for number, step in enumerate(graph.steps) if _has_kernel(step))
    return graph.steps[: next(weighted, len(graph.steps))]


def _has_kernel(step: Step) -> bool:
    return any(len(variable.shape) > 1 for variable in getattr(step.operation, "trainable_variables", []))


def _range(answers: Float32Array) -> float:
    """Return the largest difference between outputs in any unit; outputs beyond 0..1 pass through a sigmoid first."""
    values = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if values.min() < 0 or values.max() > 1:
        values = 0.5 * (1 + np.tanh(values / 2))
    return float(np.ptp(values, axis=0).max())
