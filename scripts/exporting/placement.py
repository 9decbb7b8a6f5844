"""The position of a layer's features in the image, measured by their response to changes of parts of the input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from app.imaging.geometry import Box
from scripts.errors import ExportError
from scripts.exporting.flat_graph import IMAGE, FlatGraph, Step, Value, run_steps

# The largest number of stripes into which an axis is divided.
_STRIPES = 48
_BATCH = 16
# Edges within this fraction of a cell of the image's edges are taken to be the same.
_CELLS = 0.25
# The largest distance, in cells, of a response from the straight line that features in image order follow.
_SCATTER = 1.5
# Layers and operations of Keras that keep the position of every value, up to the resolution of the grid.
_IN_PLACE = (
    "Conv2D SeparableConv2D DepthwiseConv2D Conv2DTranspose MaxPooling2D AveragePooling2D UpSampling2D Dense "
    "BatchNormalization LayerNormalization GroupNormalization UnitNormalization RMSNormalization Normalization "
    "Rescaling Activation ReLU LeakyReLU PReLU ELU Softmax Identity ActivityRegularization Dropout "
    "SpatialDropout2D GaussianNoise GaussianDropout AlphaDropout RandomFlip RandomRotation RandomZoom "
    "RandomTranslation RandomContrast RandomBrightness Add Subtract Multiply Average Maximum Minimum Divide "
    "TrueDivide Cast Relu Relu6 Sigmoid Silu Gelu Tanh HardSwish Clip Negative Square Sqrt Exp"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The conversion of a layer's output to features with the orientation of the image.

    `axes` are the axes of the output in the order (batch, rows, columns, channels). `flipped` are the axes of the
    features, 1 or 2, that are reversed.
    """

    axes: tuple[int, int, int, int] = (0, 1, 2, 3)
    flipped: tuple[int, ...] = ()

    def features(self, output: Any) -> Any:
        """Convert the `output` of the layer to features `[B, h, w, K]`."""
        turned = output if self.axes == (0, 1, 2, 3) else tf.transpose(output, self.axes)
        return tf.reverse(turned, self.flipped) if self.flipped else turned

    def output(self, features: Any) -> Any:
        """Convert `features` back to the output of the layer."""
        turned = tf.reverse(features, self.flipped) if self.flipped else features
        inverse = [self.axes.index(axis) for axis in range(4)]
        return turned if self.axes == (0, 1, 2, 3) else tf.transpose(turned, inverse)

    def shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the features for a layer output of `shape`."""
        return (shape[0], shape[self.axes[1]], shape[self.axes[2]], shape[self.axes[3]])


@dataclass(frozen=True, slots=True)
class Placement:
    """The layout of the features, and the part of the input that they cover; None for all of it."""

    layout: Layout
    region: Box | None


@dataclass(frozen=True, slots=True)
class _Span:
    """The axis of a value, counted without the batch, that corresponds to an axis of the image, and its extent.

    `start` and `stop` are fractions of the image's side. The axis is reversed if `start` is larger than `stop`.
    """

    axis: int
    start: float = 0.0
    stop: float = 1.0

    def through(self, step: _Span) -> _Span:
        """Return the span of the next value, whose span relative to this value is `step`."""
        extent = self.stop - self.start
        return _Span(step.axis, self.start + step.start * extent, self.start + step.stop * extent)


def place(graph: FlatGraph, features: Value, name: str) -> Placement:
    """Locate the value `features`, the output of the layer `name`, in the image.

    Known layers of Keras that keep positions need no measurement. For all others (crops, padding, flips, operations,
    custom layers), the function changes parts of their input and measures where the output changes.

    Raises:
        ExportError: if the features are not arranged like the image.
    """
    gates = _gates(graph, features)
    images = np.random.default_rng(0).integers(0, 256, (1, *graph.image_shape))
    value, rows, columns = tf.cast(images, graph.dtype), _Span(0), _Span(1)
    for before, behind in pairwise(gates):
        steps = graph.needed_for([behind], [before])
        stage = _Stage(steps, before, behind, value)
        if not all(_keeps_places(graph, step) for step in steps):
            rows, columns = (span.through(stage.span(span.axis, name)) for span in (rows, columns))
        value = stage.answer
    if rows.axis == columns.axis:
        raise ExportError(_refusal(name))
    layout = Layout(
        (0, rows.axis + 1, columns.axis + 1, 4 - rows.axis - columns.axis),
        tuple(number for number, span in ((1, rows), (2, columns)) if span.start > span.stop),
    )
    shape = value.shape[1:]
    (top, bottom), (left, right) = sorted((rows.start, rows.stop)), sorted((columns.start, columns.stop))
    down, across = _CELLS * (bottom - top) / shape[rows.axis], _CELLS * (right - left) / shape[columns.axis]
    if max(abs(top), abs(1 - bottom)) <= down and max(abs(left), abs(1 - right)) <= across:
        return Placement(layout, None)
    return Placement(layout, (round(left, 4), round(top, 4), round(right, 4), round(bottom, 4)))


def _refusal(name: str) -> str:
    return (
        f"the features of layer {name!r} do not lie like the image, so a heatmap can't be placed: choose an earlier "
        "layer with --layer, or export the model without the layers that rotate or shuffle its images"
    )


def _gates(graph: FlatGraph, features: Value) -> list[Value]:
    """Return the spatial values on all paths from the image to `features`, in order, including both ends."""
    steps = graph.needed_for([features], [IMAGE])
    after = graph.descendants(IMAGE)
    steps = [step for step in steps if not after.isdisjoint(step.targets)]
    last_read = {source: number for number, step in enumerate(steps) for source in step.sources}
    found, open_until = [IMAGE], last_read.get(IMAGE, -1)
    for number, step in enumerate(steps):
        spatial = len(step.targets) == 1 and len(graph.shapes.get(step.targets[0], ())) == 4
        if spatial and open_until <= number:  # no earlier value is read again
            found.append(step.targets[0])
        open_until = max([open_until, *(last_read.get(target, -1) for target in step.targets)])
    return found if found[-1] == features else [*found, features]


def _keeps_places(graph: FlatGraph, step: Step) -> bool:
    if step.kind in ("SpectralNormalization", "TimeDistributed"):
        return type(step.operation.layer).__name__ in _IN_PLACE.split()
    if sum((side or 1) > 1 for side in graph.shapes[step.targets[0]][1:]) < 2:
        return True  # one number per channel has no position
    if step.kind == "Concatenate":
        return step.operation.axis in (-1, len(graph.shapes[step.targets[0]]) - 1)
    if step.kind == "ZeroPadding2D":
        return _is_the_next_convolutions(graph, step)
    return step.kind in _IN_PLACE.split() and type(step.operation).__module__.startswith("keras.")


def _is_the_next_convolutions(graph: FlatGraph, padding: Step) -> bool:
    """Return whether `padding` only replaces the padding of the convolutions or poolings that read it."""
    readers = [step for step in graph.steps if padding.targets[0] in step.sources]
    most = max(side for pair in padding.operation.padding for side in pair)
    return bool(readers) and all(
        getattr(step.operation, "padding", None) == "valid" and most <= max(_window(step.operation)) // 2
        for step in readers
    )


def _window(operation: Any) -> tuple[int, ...]:
    sides: tuple[int, ...] = getattr(operation, "kernel_size", ()) or getattr(operation, "pool_size", (0,))
    return sides


class _Stage:
    """The steps between two values, of which the second depends only on the first."""

    def __init__(self, steps: list[Step], before: Value, behind: Value, value: Any) -> None:
        def run(given: Any) -> Any:
            return run_steps(steps, {before: given})[behind]

        self._run = tf.function(run, reduce_retracing=True)
        self._value = value
        self.answer = run(value)  # tracing would take longer than a single call

    def span(self, side: int, name: str) -> _Span:
        """Measure the span of the second value along the axis `side` of the first value."""
        value = tf.cast(self._value, tf.float32).numpy()[0]
        edges = np.unique(np.linspace(0, value.shape[side], min(_STRIPES, value.shape[side]) + 1).round().astype(int))
        step = 2 * float(value.std()) + 1.0
        marked = np.repeat(value[None], len(edges) - 1, axis=0)
        for number, (start, stop) in enumerate(pairwise(edges)):
            stripe = np.moveaxis(marked[number], side, 0)[start:stop]  # a view
            stripe += np.where(stripe > value.mean(), -step, step)
        whole = tf.cast(self.answer, tf.float32).numpy()[0]
        batches = [marked[at : at + _BATCH] for at in range(0, len(marked), _BATCH)]
        answers = [tf.cast(self._run(tf.cast(batch, self._value.dtype)), tf.float32).numpy() for batch in batches]
        change = np.abs(np.concatenate(answers) - whole).astype(np.float64)  # [stripes, a, b, c]
        if whole.ndim != 3 or not change.max() > 0:  # features without a response only have empty maps
            return _Span(side)
        profiles = {axis: _profile(change, axis) for axis in range(3) if whole.shape[axis] > 1}
        axis = max(profiles, key=lambda one: _spread(profiles[one]))
        return _line(profiles[axis], (edges[:-1] + edges[1:]) / (2 * value.shape[side]), axis, name)


def _profile(change: np.ndarray, axis: int) -> np.ndarray:
    """Return the response of each cell along `axis` to each stripe, `[stripes, cells]`, minus its smallest response."""
    others = tuple(other + 1 for other in range(3) if other != axis)
    profile = change.mean(axis=others)
    return profile - profile.min(axis=0)


def _spread(profile: np.ndarray) -> float:
    """Return how much the responses of cells differ; 0 if all cells respond to all stripes alike."""
    shares = profile / np.maximum(profile.sum(axis=0), np.finfo(np.float64).tiny)
    return float(np.abs(shares - shares.mean(axis=1, keepdims=True)).sum(axis=0).mean())


def _line(profile: np.ndarray, places: np.ndarray, axis: int, name: str) -> _Span:
    """Fit a straight line to the positions that the cells respond to, and return the span of the axis.

    Raises:
        ExportError: if the positions do not follow a line.
    """
    strength = profile.sum(axis=0)
    seeing = np.flatnonzero(strength > 0.02 * strength.max())
    if len(seeing) < 2:
        return _Span(axis)
    weights = profile[:, seeing] ** 2  # emphasise the centre of each receptive field
    looks = (weights * places[:, None]).sum(axis=0) / weights.sum(axis=0)
    cells = (seeing + 0.5) / profile.shape[1]
    # The image cuts off the receptive fields of cells at the rim, so inner cells define the line if there are enough.
    inner = slice(1, -1) if len(seeing) > 4 else slice(None)
    x, y = cells[inner], looks[inner]
    slope = float(np.median([(y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i + 1, len(x))]))
    offset = float(np.median(y - slope * x))
    scatter = float(np.abs(y - slope * x - offset).max()) * profile.shape[1]
    if abs(slope) < 0.1 or scatter > _SCATTER * abs(slope):
        raise ExportError(_refusal(name))
    return _Span(axis, offset, offset + slope)
