"""The layers whose features can explain a classifier, and the choice of the best one."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.errors import ExportError
from scripts.exporting.flat_graph import IMAGE, FlatGraph, Step, Value, inner_layers

_POOLING = ("MaxPooling2D", "AveragePooling2D", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D")
# The largest number of layers in an error message.
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step with one output `[B, h, w, K]`, or `[B, K, h, w]` if channels come first."""

    step: Step
    grid: tuple[int, int]

    @property
    def value(self) -> Value:
        return self.step.targets[0]


class FeatureLayers:
    """The spatial layers of `graph` between its image and the value `logits`."""

    def __init__(self, graph: FlatGraph, logits: Value) -> None:
        self._graph = graph
        self._logits = logits
        after = graph.descendants(IMAGE)
        self._steps = [step for step in graph.needed_for([logits], [IMAGE]) if not after.isdisjoint(step.targets)]
        self._first = _channels_first(self._steps)
        self._candidates = [found for step in self._steps if (found := self._candidate(step)) is not None]

    def named(self, layer: str) -> Candidate:
        """Return the layer with the given name or path.

        Raises:
            ExportError: if there is none, or several, or if its output is not spatial.
        """
        found = [step for step in self._steps if layer in (step.path, step.name)]
        if not found:
            paths = ", ".join(candidate.step.path for candidate in reversed(self._candidates[-_NAMED:])) or "none"
            raise ExportError(f"there is no layer {layer!r}; the last layers with a spatial output: {paths}")
        if len(found) > 1:
            raise ExportError(f"layer {layer!r} is ambiguous: {', '.join(step.path for step in found)}; pass the path")
        candidate = self._candidate(found[0])
        if candidate is None:
            shape = self._graph.shapes.get(found[0].targets[0])
            raise ExportError(f"the output of layer {layer!r} has shape {shape}, not (batch, h, w, channels)")
        return candidate

    def default(self) -> Candidate:
        """Return the last layer on all paths to the logits that has the grid of the last convolution.

        If there is none, as after the branches of an attention, the grid of the convolution before counts, and so on.

        Raises:
            ExportError: if there is none; the message lists the layers to choose from.
        """
        order = {id(step): position for position, step in enumerate(self._steps)}
        # A convolution on a 1 x 1 grid is effectively a dense layer (squeeze-and-excitation, the head of MobileNetV3).
        convolutions = [one for one in self._candidates if one.grid != (1, 1) and has_convolution(one.step)]
        if not convolutions:
            raise ExportError(
                "the model has no convolution with a spatial output, so it can't be explained by a heatmap"
            )
        gates = [one for one in self._candidates if one.step.kind not in _POOLING and self.is_passed_by_all(one.value)]
        for convolution in reversed(convolutions):
            same = [gate for gate in gates if gate.grid == convolution.grid]
            behind = [gate for gate in same if order[id(gate.step)] >= order[id(convolution.step)]]
            if behind:
                return behind[-1]
        raise ExportError(
            "several branches lead to the logits, so no layer determines them alone; choose the layer of a branch with "
            f"--layer, best first: {', '.join(one.step.path for one in self._ends()[:_NAMED])}"
        )

    def display_name(self, candidate: Candidate) -> str:
        """Return the name of the layer or, if the name is not unique, its path."""
        name = candidate.step.name
        return name if sum(step.name == name for step in self._graph.steps) == 1 else candidate.step.path

    def is_passed_by_all(self, value: Value) -> bool:
        """Return whether every path from the image to the logits goes through `value`."""
        reached = {IMAGE} - {value}
        for step in self._steps:
            if not reached.isdisjoint(step.sources):
                reached.update(target for target in step.targets if target != value)
        return self._logits not in reached

    def _ends(self) -> list[Candidate]:
        """Return the last spatial layer of each branch, the last branch first. Pooling layers are ignored."""
        usable = [one for one in self._candidates if one.step.kind not in _POOLING and one.grid != (1, 1)]
        values = {one.value for one in usable}
        ends = [one for one in usable if not (self._graph.descendants(one.value) - {one.value}) & values]
        return ends[::-1]

    def _candidate(self, step: Step) -> Candidate | None:
        shape = self._graph.shapes.get(step.targets[0], ())
        if len(step.targets) != 1 or len(shape) != 4 or None in shape[1:]:
            return None
        sides = shape[2:] if step.targets[0] in self._first else shape[1:3]
        return Candidate(step, (int(sides[0] or 0), int(sides[1] or 0)))


def has_convolution(step: Step) -> bool:
    """Return whether `step`, or a layer inside it, has a kernel over both axes of an image."""
    return any(len(variable.shape) >= 4 for layer in inner_layers(step.operation) for variable in layer.variables)


def _channels_first(steps: list[Step]) -> set[Value]:
    """Return the values with axes (batch, channels, h, w). Layers without `data_format` keep their input's order."""
    first: set[Value] = set()
    for step in steps:
        said = getattr(step.operation, "data_format", None)
        inherits = said is None and step.kind not in ("Permute", "Transpose")
        if said == "channels_first" or (inherits and not first.isdisjoint(step.sources)):
            first.update(step.targets)
    return first
