"""A Keras model as a flat list of calls, including those of models nested at any depth."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import tensorflow as tf

from scripts.errors import ExportError

HALF_PRECISION = ("float16", "bfloat16")

Value = int
IMAGE: Value = 0


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a layer or operation, which computes the values `targets` from the values `sources`.

    `arguments` is Keras's record of the call, and `symbols` are the ids of its symbolic tensors, in the order of
    `sources`. A `linear` step is called without its activation.
    """

    path: str
    operation: Any
    arguments: Any
    symbols: tuple[int, ...]
    sources: tuple[Value, ...]
    targets: tuple[Value, ...]
    linear: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> str:
        """The class name of the operation."""
        return type(self.operation).__name__

    def call(self, values: dict[Value, Any]) -> list[Any]:
        """Compute the outputs from `values`, in inference mode."""
        known = {symbol: values[source] for symbol, source in zip(self.symbols, self.sources, strict=True)}
        args, kwargs = ((known[self.symbols[0]],), {}) if self.arguments is None else self.arguments.fill_in(known)
        if _takes_training(self.operation):
            kwargs = {**kwargs, "training": False}
        with _without_activation(self.operation) if self.linear else ExitStack():
            return list(keras.tree.flatten(self.operation(*args, **kwargs)))


def _takes_training(operation: Any) -> bool:
    return isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters


@contextmanager
def _without_activation(layer: Any) -> Iterator[None]:
    activation = layer.activation
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation


@contextmanager
def in_single_precision(operations: Iterable[Any]) -> Iterator[None]:
    """Make the layers in `operations`, and the layers inside them, compute in float32 within the context."""
    layers = [layer for operation in operations for layer in inner_layers(operation)]
    policies = [(layer, layer.dtype_policy) for layer in layers if layer.compute_dtype in HALF_PRECISION]
    try:
        for layer, _ in policies:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def _kept_precise(step: Step) -> Step:
    """Return `step`, or one that passes on its input if `step` would cast it to half precision."""
    coarsens = step.kind == "Cast" and step.operation.dtype in HALF_PRECISION
    return replace(step, operation=lambda value, *_, **__: value) if coarsens else step


def inner_layers(operation: Any) -> list[Any]:
    """Return `operation`, if it is a layer, and all layers inside it."""
    if not isinstance(operation, keras.Layer):
        return []
    return list(operation._flatten_layers())


@dataclass(slots=True)
class FlatGraph:
    """Calls in topological order, from the image, value 0, to `output`.

    `shapes` are the shapes of the values for images of `image_shape` `[H, W, C]`, with None for the batch. `dtype` is
    the type of the model's input.
    """

    image_shape: tuple[int, int, int]
    dtype: str
    steps: list[Step] = field(default_factory=list)
    output: Value = IMAGE
    shapes: dict[Value, tuple[Any, ...]] = field(default_factory=dict)
    _count: int = 1

    def new_value(self) -> Value:
        """Return an unused number for a value."""
        self._count += 1
        return self._count - 1

    def producer(self, value: Value) -> Step | None:
        """Return the step that computes `value`; None for the image."""
        return next((step for step in self.steps if value in step.targets), None)

    def descendants(self, value: Value) -> set[Value]:
        """Return `value` and all values that depend on it."""
        found = {value}
        for step in self.steps:
            if not found.isdisjoint(step.sources):
                found.update(step.targets)
        return found

    def needed_for(self, values: Iterable[Value], given: Iterable[Value]) -> list[Step]:
        """Return the steps that compute `values` from those `given`, in order."""
        wanted, known, found = set(values), set(given), []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(set(step.targets) - known):
                found.append(step)
                wanted.update(set(step.sources) - known)
        return found[::-1]

    def trace(self) -> None:
        """Determine the shapes of all values with a black image."""
        values = run_steps(self.steps, {IMAGE: tf.zeros([1, *self.image_shape], self.dtype)})
        self.shapes = {
            number: (None, *value.shape[1:])
            for number, value in values.items()
            if tf.is_tensor(value) and value.shape.rank
        }


def run_steps(steps: Sequence[Step], values: dict[Value, Any]) -> dict[Value, Any]:
    """Return `values` and all values that `steps` compute from them."""
    values = dict(values)
    for step in steps:
        # Keras may omit outputs of a nested model that nothing reads.
        values.update(zip(step.targets, step.call(values), strict=False))
    return values


def flatten(model: Any, size: tuple[int, int] | None = None) -> FlatGraph:
    """Flatten `model`, a Functional or Sequential classifier, for images of `size` (default: its own).

    Raises:
        ExportError: if the model has no graph, or not exactly one image input and one output.
    """
    _check(model)
    shape = tuple(model.inputs[0].shape[1:])
    height, width = (shape[0], shape[1]) if size is None else size
    if None in (height, width, shape[2]):
        raise ExportError(f"the model's input has shape {(None, *shape)}; set its size with --size, such as --size 224")
    if size is not None and any(own not in (None, given) for own, given in zip(shape[:2], size, strict=True)):
        raise ExportError(f"the model's input is fixed at {shape[0]}x{shape[1]}; drop --size or pass that size")
    graph = FlatGraph(
        (int(height), int(width), int(shape[2])), str(keras.backend.standardize_dtype(model.inputs[0].dtype))
    )
    outputs = _append(graph, model, [IMAGE], "")
    graph.output = outputs[0]
    graph.trace()
    return graph


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ExportError(
            "the model has no layer graph: only Functional and Sequential models can be packed, not subclassed ones; "
            "build it as keras.Model(image, output), then save it"
        )
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ExportError(
                f"the model has {len(tensors)} {what}s; an image classifier has one: build it with one {what} as "
                "keras.Model(image, output), then save it"
            )
    if len(model.inputs[0].shape) != 4:
        raise ExportError(
            f"the model's input has shape {model.inputs[0].shape}; that of images is (batch, H, W, channels)"
        )


def _append(graph: FlatGraph, model: Any, inputs: list[Value], prefix: str) -> list[Value]:
    """Append the calls of `model` with the values `inputs`, and return the values of its outputs."""
    if isinstance(model, keras.Sequential) and model._functional is None:
        return _append_sequence(graph, model, inputs, prefix)
    functional = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(tensor): value for tensor, value in zip(functional.inputs, inputs, strict=True)}
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input or any(id(tensor) not in known for tensor in node.input_tensors):
                continue
            sources = [known[id(tensor)] for tensor in node.input_tensors]
            path = prefix + node.operation.name
            if _is_graph(node.operation) and len(node.operation.inputs) == len(sources):
                targets = _append(graph, node.operation, sources, f"{path}/")
            else:
                targets = [graph.new_value() for _ in node.output_tensors]
                symbols = tuple(id(tensor) for tensor in node.input_tensors)
                step = Step(path, node.operation, node.arguments, symbols, tuple(sources), tuple(targets))
                graph.steps.append(step)
            known.update({id(tensor): value for tensor, value in zip(node.output_tensors, targets, strict=True)})
    return [known[id(tensor)] for tensor in functional.outputs]


def _append_sequence(graph: FlatGraph, model: Any, inputs: list[Value], prefix: str) -> list[Value]:
    """Append the layers of a Sequential model for which Keras has not created a graph."""
    for layer in model.layers:
        if _is_graph(layer):
            inputs = _append(graph, layer, inputs, f"{prefix}{layer.name}/")
        else:
            target = graph.new_value()
            graph.steps.append(Step(prefix + layer.name, layer, None, (0,), tuple(inputs), (target,)))
            inputs = [target]
    return inputs


def _is_graph(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


class Part:
    """A part of a graph as a function from the values `sources` to the values `targets`.

    With `single_precision`, the layers compute in float32. `before` is applied to the first source, and `after` to the
    first target. `input_shape` is the shape before `before`, and `output_shape` the shape after `after`.
    """

    def __init__(
        self,
        graph: FlatGraph,
        sources: Sequence[Value],
        targets: Sequence[Value],
        *,
        input_shape: tuple[int | None, ...],
        output_shape: tuple[int | None, ...],
        single_precision: bool = False,
        before: Callable[[Any], Any] = lambda value: value,
        after: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._sources, self._targets = tuple(sources), tuple(targets)
        self._steps = graph.needed_for(targets, sources)
        if single_precision:
            self._steps = [_kept_precise(step) for step in self._steps]
        self._single_precision = single_precision
        self._before, self._after = before, after
        self._takes_image, self._dtype = IMAGE in sources, graph.dtype
        self.input_shape = input_shape
        self.output_shape = output_shape

    @property
    def variables(self) -> list[Any]:
        """The Keras variables of the calls, in the order of the calls."""
        found: dict[int, Any] = {}
        for step in self._steps:
            for variable in getattr(step.operation, "variables", []):
                found.setdefault(id(variable), variable)
        return list(found.values())

    def __call__(self, inputs: Any, *, training: bool = False) -> Any:
        """Compute the targets from the sources, in inference mode. Several sources or targets are lists."""
        assert not training
        first, *others = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        values = [self._before(first), *others]
        if self._takes_image:
            values[0] = tf.cast(values[0], self._dtype)
        with ExitStack() as stack:
            if self._single_precision:
                values = [
                    tf.cast(value, tf.float32) if value.dtype.name in HALF_PRECISION else value for value in values
                ]
                stack.enter_context(in_single_precision(step.operation for step in self._steps))
            found = run_steps(self._steps, dict(zip(self._sources, values, strict=True)))
        first, *others = (found[value] for value in self._targets)
        outputs = [self._after(first), *others]
        return outputs if others else outputs[0]
