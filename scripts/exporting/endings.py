"""The end of a classifier: the position of its logits in the graph, and the meaning of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from app.arrays import Float32Array
from app.artifact.manifest import Task
from scripts.errors import ExportError
from scripts.exporting.compiled_loss import CompiledLoss
from scripts.exporting.flat_graph import FlatGraph, Step, Value

Outputs = Literal["logits", "probabilities"]
# At inference, these layers pass on every value in the same order.
_TRANSPARENT = (
    "Dropout SpatialDropout1D SpatialDropout2D GaussianDropout GaussianNoise AlphaDropout ActivityRegularization "
    "Identity Flatten Reshape Cast Squeeze ExpandDims Ravel Copy"
)
_LINEAR = ("Dense", "EinsumDense", "Conv2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "BatchNormalization")
_ADVICE = "declare the outputs with --outputs logits or --outputs probabilities"
_TINY = float(np.finfo(np.float32).tiny)
# In single precision, the sigmoid of such a logit is indistinguishable from certainty.
_BEYOND = 30.0


@dataclass(frozen=True, slots=True)
class Ending:
    """The meaning of the model's `outputs`, its `task`, and the number of output `units`."""

    outputs: Outputs
    task: Task
    units: int

    @property
    def classes(self) -> int:
        """The number of classes. A single unit distinguishes two."""
        return max(2, self.units)

    def probabilities(self, outputs: np.ndarray) -> Float32Array:
        """Convert the model's `outputs`, `[B, ...]`, to class probabilities `[B, classes]`."""
        values = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
        if self.outputs == "logits":
            if self.task == "multi_label" or self.units == 1:
                values = 0.5 * (1 + np.tanh(values / 2))  # a sigmoid that can't overflow
            else:
                values = np.exp(values - values.max(axis=-1, keepdims=True))
                values /= values.sum(axis=-1, keepdims=True)
        if self.units == 1:
            values = np.concatenate([1 - values, values], axis=-1)
        return values.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Logits:
    """The position of the logits: `finish` converts the value `at` of the graph to logits `[B, classes]`."""

    graph: FlatGraph
    at: Value
    finish: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Activated:
    """A softmax or sigmoid, and the step that applies it, possibly after a computation of its own."""

    function: Literal["softmax", "sigmoid"]
    step: Step


def read_ending(
    graph: FlatGraph, answers: Float32Array, loss: CompiledLoss | None, outputs: Outputs | None, *, several: bool
) -> tuple[Ending, Logits]:
    """Find the logits of `graph`, and determine what its outputs mean.

    Args:
        graph: the flattened model.
        answers: the outputs of the original model for a variety of images, `[N, ...]`.
        loss: the loss that the model was compiled with, if known.
        outputs: the meaning of the outputs, if the user declares it.
        several: whether the user declares that an image can belong to several classes.

    Raises:
        ExportError: if the meaning of the outputs is unclear, or if they are not those of a classifier.
    """
    shape = graph.shapes[graph.output]
    units = int(np.prod([side or 1 for side in shape[1:]]))
    if None in shape[1:] or units != max(shape[1:], default=0):
        raise ExportError(f"the model's output has shape {shape}; a classifier's is (batch, classes)")
    last = _behind_transparent(graph, graph.output)
    activated = _activation(graph, last, told=outputs is not None)
    if activated is not None:
        if outputs == "logits":
            raise ExportError(
                f"the model ends in a {activated.function}, so its outputs are not logits: drop --outputs"
            )
        return _of_activation(graph, activated, units, answers, several=several)
    ending = _of_scores(last, answers.reshape(len(answers), -1), units, loss, outputs, several=several)
    return ending, Logits(graph, graph.output, _finish(ending))


def _behind_transparent(graph: FlatGraph, value: Value) -> Step | None:
    """Return the last step that does more than pass on its input."""
    step = graph.producer(value)
    while step is not None and _is_transparent(graph, step):
        step = graph.producer(step.sources[0])
    return step


def _is_transparent(graph: FlatGraph, step: Step) -> bool:
    if len(step.sources) != 1 or not _same_size(graph, step):
        return False
    return step.kind in _TRANSPARENT.split() or (step.kind == "Activation" and _function(step.operation) == "linear")


def _same_size(graph: FlatGraph, step: Step) -> bool:
    before, behind = graph.shapes[step.sources[0]][1:], graph.shapes[step.targets[0]][1:]
    return None not in (*before, *behind) and np.prod(before) == np.prod(behind)


def _function(layer: Any) -> str:
    """Return the name of a layer's activation, `linear` if it has none."""
    function = getattr(layer, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", function))


def _activation(graph: FlatGraph, step: Step | None, *, told: bool) -> _Activated | None:
    """Return the softmax or sigmoid that `step` applies, or None.

    Raises:
        ExportError: if the activation is another function, or a softmax over an axis other than the classes, and the
            user has not `told` what the outputs are.
    """
    if step is None:
        return None
    name = step.kind.lower() if step.kind in ("Softmax", "Sigmoid") else _function(step.operation)
    if step.kind in ("ReLU", "LeakyReLU", "PReLU", "ELU", "Relu", "Tanh", "HardSigmoid", "Relu6"):
        name = step.kind.lower()
    if name == "linear":
        return None
    units = graph.shapes[step.targets[0]][-1]
    whole = int(np.prod([side or 1 for side in graph.shapes[step.targets[0]][1:]]))
    if name == "sigmoid":
        return _Activated("sigmoid", step)
    axis = getattr(step.operation, "axis", -1)
    if name == "softmax" and units == whole and units > 1 and axis in (-1, len(graph.shapes[step.targets[0]]) - 1):
        return _Activated("softmax", step)
    if told:
        return None
    raise ExportError(
        f"the model ends in {name!r} over {units} output(s), but the exporter expects a softmax over several outputs, "
        f"sigmoids, or logits: {_ADVICE}"
    )


def _of_activation(
    graph: FlatGraph, found: _Activated, units: int, answers: Float32Array, *, several: bool
) -> tuple[Ending, Logits]:
    if found.function == "softmax" and several:
        raise ExportError("--thresholds applies only to multi-label models; this model ends in a softmax")
    task: Task = "multi_label" if found.function == "sigmoid" and units > 1 else "single_label"
    ending = Ending("probabilities", task, units)
    _check_probabilities(ending, answers.reshape(len(answers), -1))
    step = found.step
    if step.kind in ("Softmax", "Sigmoid", "Activation"):
        at, changed = step.sources[0], graph
    else:
        at = step.targets[0]
        steps = [replace(one, linear=True) if one is step else one for one in graph.steps]
        changed = replace(graph, steps=steps)
    return ending, Logits(changed, at, _finish(replace(ending, outputs="logits")))


def _check_probabilities(ending: Ending, answers: np.ndarray) -> None:
    sums = answers.sum(axis=-1)
    exclusive = ending.units > 1 and ending.task == "single_label"
    if answers.min() < 0 or answers.max() > 1.001 or (exclusive and np.abs(sums - 1).max() > 0.02):
        raise ExportError("the outputs are not probabilities: they are outside 0..1, or do not add up to 1")


def _of_scores(
    last: Step | None,
    answers: np.ndarray,
    units: int,
    loss: CompiledLoss | None,
    outputs: Outputs | None,
    *,
    several: bool,
) -> Ending:
    """Interpret outputs without a final softmax or sigmoid, by the declaration of the user, the loss, or the values."""
    multi_label = several or (loss is not None and loss.kind == "binary" and units > 1)
    if outputs == "probabilities":
        exclusive = units > 1 and not multi_label and np.abs(answers.sum(axis=-1) - 1).max() < 0.02
        ending = Ending("probabilities", "multi_label" if units > 1 and not exclusive else "single_label", units)
        _check_probabilities(ending, answers)
        return ending
    ending = Ending("logits", "multi_label" if multi_label and units > 1 else "single_label", units)
    if outputs == "logits":
        return ending
    if loss is not None and loss.kind == "regression":
        raise ExportError(
            f"the model was compiled with {loss.name!r}, so it looks like a regression, which has no classes; if its "
            "outputs are logits, pass --outputs logits"
        )
    if loss is not None and loss.kind == "margin":
        raise ExportError(f"the model was compiled with {loss.name!r}, whose scores are not logits: {_ADVICE}")
    told = loss is not None and loss.from_logits
    if told and last is not None and last.kind in _LINEAR:
        return ending
    if answers.min() >= 0 and answers.max() <= 1:
        raise ExportError(
            f"the outputs look like probabilities (0..1), but the model ends in {_end(last)}, not in a softmax or "
            f"sigmoid: {_ADVICE}"
        )
    if loss is not None and loss.kind in ("categorical", "binary") and not told:
        raise ExportError(
            f"the model ends in {_end(last)}, but its loss {loss.name!r} expects probabilities, and the outputs are "
            f"outside 0..1: {_ADVICE}"
        )
    if units == 1 and loss is None and np.abs(answers).min() > _BEYOND:
        raise ExportError(
            f"the output, {answers.min():.3g} to {answers.max():.3g}, is too far from 0 for a logit: the model "
            "looks like a regression; if the output is a logit, pass --outputs logits"
        )
    return ending


def _end(last: Step | None) -> str:
    return "its input" if last is None else f"{last.kind} {last.path!r}"


def _finish(ending: Ending) -> Callable[[Any], Any]:
    """Return a function that converts the output of the graph to logits `[B, classes]`."""

    def finish(values: Any) -> Any:
        z = tf.reshape(tf.cast(values, tf.float32), [-1, ending.units])
        if ending.outputs == "probabilities":
            independent = ending.task == "multi_label" or ending.units == 1
            z = _log(z) - _log(1.0 - z) if independent else _log(z)
        # softmax(-z/2, z/2) = (1 - sigmoid(z), sigmoid(z)). With halves, both classes have a gradient.
        return tf.concat([-0.5 * z, 0.5 * z], axis=-1) if ending.units == 1 else z

    return finish


def _log(probabilities: Any) -> Any:
    return tf.math.log(tf.maximum(probabilities, _TINY))
