"""Where in the image a layer's features lie, found out by experiment: mark a part of the input, see what answers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from app.imaging.geometry import Box
from scripts.errors import ExportError
from scripts.exporting.flat_graph import IMAGE, FlatGraph, Step, Value, run_steps

# How many stripes an axis is divided into, at most.
_STRIPES = 48
_BATCH = 16
# Edges that are less than this share of a cell away from the image's own are taken for these.
_CELLS = 0.25
# How far, in cells, answers may lie off a straight line before they are called something else than a picture.
_SCATTER = 1.5
# Keras layers, and operations, that keep every value where it is, but for the grid's coarseness.
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
    """How a layer's output becomes features that lie like the image.

    `axes` are its axes in the order (batch, rows, columns, channels); `flipped` names those of the features, 1 or 2,
    that run the other way.
    """

    axes: tuple[int, int, int, int] = (0, 1, 2, 3)
    flipped: tuple[int, ...] = ()

    def features(self, output: Any) -> Any:
        """The features `[B, h, w, K]` of a layer's `output`."""
        turned = output if self.axes == (0, 1, 2, 3) else tf.transpose(output, self.axes)
        return tf.reverse(turned, self.flipped) if self.flipped else turned

    def output(self, features: Any) -> Any:
        """The layer's output that `features` were made of."""
        turned = tf.reverse(features, self.flipped) if self.flipped else features
        inverse = [self.axes.index(axis) for axis in range(4)]
        return turned if self.axes == (0, 1, 2, 3) else tf.transpose(turned, inverse)

    def shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The features' shape, for a layer's output of `shape`."""
        return (shape[0], shape[self.axes[1]], shape[self.axes[2]], shape[self.axes[3]])


@dataclass(frozen=True, slots=True)
class Placement:
    """The features' layout, and the part of the input that they cover; None for all of it."""

    layout: Layout
    region: Box | None


@dataclass(frozen=True, slots=True)
class _Span:
    """On which axis of a value, counted without the batch, an axis of the image is found, and how much it covers.

    `start` and `stop` are shares of the image's side; the axis runs the other way where `start` is the larger.
    """

    axis: int
    start: float = 0.0
    stop: float = 1.0

    def through(self, step: _Span) -> _Span:
        """This span, carried on by one that says what a value covers of the value before it."""
        extent = self.stop - self.start
        return _Span(step.axis, self.start + step.start * extent, self.start + step.stop * extent)


def place(graph: FlatGraph, features: Value, name: str) -> Placement:
    """Where the value `features`, the output of the layer `name`, lies in the image.

    Layers of Keras that are known to keep values where they are need no experiment. Around all others (crops, padding,
    flips, operations, own layers) a part of what goes in is changed, and where the change comes out is measured.

    Raises:
        ExportError: the features do not lie like a picture of the input.
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
        "layer with --layer, or export the model without what turns or shuffles its images"
    )


def _gates(graph: FlatGraph, features: Value) -> list[Value]:
    """The spatial values that every path from the image to `features` goes through, both included, in order."""
    steps = graph.needed_for([features], [IMAGE])
    after = graph.descendants(IMAGE)
    steps = [step for step in steps if not after.isdisjoint(step.targets)]
    last_read = {source: number for number, step in enumerate(steps) for source in step.sources}
    found, open_until = [IMAGE], last_read.get(IMAGE, -1)
    for number, step in enumerate(steps):
        spatial = len(step.targets) == 1 and len(graph.shapes.get(step.targets[0], ())) == 4
        if spatial and open_until <= number:  # nothing made before is read again
            found.append(step.targets[0])
        open_until = max([open_until, *(last_read.get(target, -1) for target in step.targets)])
    return found if found[-1] == features else [*found, features]


def _keeps_places(graph: FlatGraph, step: Step) -> bool:
    if step.kind in ("SpectralNormalization", "TimeDistributed"):
        return type(step.operation.layer).__name__ in _IN_PLACE.split()
    if sum((side or 1) > 1 for side in graph.shapes[step.targets[0]][1:]) < 2:
        return True  # one number for each channel lies nowhere
    if step.kind == "Concatenate":
        return step.operation.axis in (-1, len(graph.shapes[step.targets[0]]) - 1)
    if step.kind == "ZeroPadding2D":
        return _is_the_next_convolutions(graph, step)
    return step.kind in _IN_PLACE.split() and type(step.operation).__module__.startswith("keras.")


def _is_the_next_convolutions(graph: FlatGraph, padding: Step) -> bool:
    """Whether a padding only replaces that of a convolution or pooling behind it, which has none."""
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
    """Some steps between two values of which the second is made of the first alone."""

    def __init__(self, steps: list[Step], before: Value, behind: Value, value: Any) -> None:
        def run(given: Any) -> Any:
            return run_steps(steps, {before: given})[behind]

        self._run = tf.function(run, reduce_retracing=True)
        self._value = value
        self.answer = run(value)  # tracing would take longer than a single call

    def span(self, side: int, name: str) -> _Span:
        """Where the axis `side` of the value before is found in the value behind."""
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
        if whole.ndim != 3 or not change.max() > 0:  # what answers nothing has only empty maps, wherever they are
            return _Span(side)
        profiles = {axis: _profile(change, axis) for axis in range(3) if whole.shape[axis] > 1}
        axis = max(profiles, key=lambda one: _spread(profiles[one]))
        return _line(profiles[axis], (edges[:-1] + edges[1:]) / (2 * value.shape[side]), axis, name)


def _profile(change: np.ndarray, axis: int) -> np.ndarray:
    """How much each cell along `axis` answers to each stripe, `[stripes, cells]`, less what every stripe does to it."""
    others = tuple(other + 1 for other in range(3) if other != axis)
    profile = change.mean(axis=others)
    return profile - profile.min(axis=0)


def _spread(profile: np.ndarray) -> float:
    """How differently the cells answer to the stripes: nothing, where they all look everywhere."""
    shares = profile / np.maximum(profile.sum(axis=0), np.finfo(np.float64).tiny)
    return float(np.abs(shares - shares.mean(axis=1, keepdims=True)).sum(axis=0).mean())


def _line(profile: np.ndarray, places: np.ndarray, axis: int, name: str) -> _Span:
    """The straight line through where each cell looks: what the axis covers.

    Raises:
        ExportError: there is no such line.
    """
    strength = profile.sum(axis=0)
    seeing = np.flatnonzero(strength > 0.02 * strength.max())
    if len(seeing) < 2:
        return _Span(axis)
    weights = profile[:, seeing] ** 2  # the middle of what a cell sees counts more than its rim
    looks = (weights * places[:, None]).sum(axis=0) / weights.sum(axis=0)
    cells = (seeing + 0.5) / profile.shape[1]
    # Cells at the rim see only half of what they would: the line is drawn through the inner ones, where there are some.
    inner = slice(1, -1) if len(seeing) > 4 else slice(None)
    x, y = cells[inner], looks[inner]
    slope = float(np.median([(y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i + 1, len(x))]))
    offset = float(np.median(y - slope * x))
    scatter = float(np.abs(y - slope * x - offset).max()) * profile.shape[1]
    if abs(slope) < 0.1 or scatter > _SCATTER * abs(slope):
        raise ExportError(_refusal(name))
    return _Span(axis, offset, offset + slope)
