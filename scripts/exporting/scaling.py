"""Does a model get its pixels in the range that it was trained with? Reasons to think again, which refuse nothing."""

from __future__ import annotations

import numpy as np

from app.arrays import Float32Array, UInt8Array
from scripts.exporting.flat_graph import FlatGraph, Step
from scripts.exporting.own_answers import OwnAnswers
from scripts.exporting.preprocessing import Preprocessing

_SCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide")
# Answers that differ by less are the same; by more than the second figure, they aren't.
_SAME, _OTHER = 0.01, 0.05


def scaling_warnings(
    graph: FlatGraph, preprocessing: Preprocessing, answers: Float32Array, rescaled: OwnAnswers, probes: UInt8Array
) -> list[str]:
    """What speaks against the chosen preprocessing.

    Args:
        graph: the model.
        preprocessing: what was chosen.
        answers: the model's own outputs for `probes`, so preprocessed, `[N, ...]`.
        rescaled: what the model answers where pixels are brought to 0..1.
        probes: images that differ.
    """
    found = []
    own = [step.path for step in _before_the_first_kernel(graph) if step.kind in _SCALING]
    if own and preprocessing not in ("none", "bgr"):
        found.append(
            f"the model scales its input itself, in {own[0]!r}, and --preprocessing scales it once more: think about "
            "--preprocessing none"
        )
    varied = probes.reshape(len(probes), -1).std(axis=-1) > 0  # black is black in any range
    if (
        preprocessing == "none"
        and not own
        and _range(answers[varied]) < _SAME
        and _range(rescaled(probes[varied])) > _OTHER
    ):
        found.append(
            "the model answers the same to every image with pixels 0..255, and not with 0..1: think about "
            "--preprocessing rescale"
        )
    return found


def _before_the_first_kernel(graph: FlatGraph) -> list[Step]:
    weighted = (number for number, step in enumerate(graph.steps) if _has_kernel(step))
    return graph.steps[: next(weighted, len(graph.steps))]


def _has_kernel(step: Step) -> bool:
    return any(len(variable.shape) > 1 for variable in getattr(step.operation, "trainable_variables", []))


def _range(answers: Float32Array) -> float:
    """The largest difference between the answers, in any unit, after they are brought to 0..1 where they exceed it."""
    values = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if values.min() < 0 or values.max() > 1:
        values = 0.5 * (1 + np.tanh(values / 2))
    return float(np.ptp(values, axis=0).max())
