"""Splitting of a classifier at one layer into a trunk (image to features) and a head (features to logits)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from scripts.exporting.endings import Ending, Logits
from scripts.exporting.feature_layers import Candidate
from scripts.exporting.flat_graph import IMAGE, FlatGraph, Part, Value
from scripts.exporting.placement import Layout


class Network(Protocol):
    """A part of a classifier: a Keras model, or a part of a flattened model."""

    @property
    def input_shape(self) -> Any: ...

    @property
    def output_shape(self) -> Any: ...

    @property
    def variables(self) -> Any: ...

    def __call__(self, inputs: Any, *, training: bool = False) -> Any: ...


@dataclass(frozen=True, slots=True)
class SplitModel:
    """A classifier in two parts, which share the variables of the original model.

    `trunk` maps images `[B, H, W, C]` to features `[B, h, w, K]`, and `head` maps features to logits `[B, classes]`.
    `layer` names the layer that computes the features. If paths lead around that layer, the trunk returns their values
    after the features, and the head takes a list of the features and these values.
    """

    trunk: Network
    head: Network
    layer: str


def split_graph(logits: Logits, ending: Ending, candidate: Candidate, name: str, layout: Layout) -> SplitModel:
    """Split a flattened model at `candidate`, whose output `layout` converts to features.

    The head computes in single precision, because gradients underflow to zero in half precision.
    """
    graph, features = logits.graph, candidate.value
    around = _around(graph, features, logits.at)
    grid = layout.shape(graph.shapes[features])
    trunk = Part(
        graph,
        [IMAGE],
        [features, *around],
        input_shape=(None, *graph.image_shape),
        output_shape=grid,
        after=layout.features,
    )
    head = Part(
        graph,
        [features, *around],
        [logits.at],
        input_shape=grid,
        output_shape=(None, ending.classes),
        single_precision=True,
        before=layout.output,
        after=logits.finish,
    )
    return SplitModel(trunk, head, name)


def _around(graph: FlatGraph, features: Value, logits: Value) -> list[Value]:
    """Return the values, other than `features`, that the head reads and that depend on the image."""
    of_features, of_image = graph.descendants(features), graph.descendants(IMAGE)
    head = [step for step in graph.needed_for([logits], [features]) if not of_features.isdisjoint(step.targets)]
    read = [source for step in head for source in step.sources]
    return sorted({value for value in read if value in of_image and value not in of_features})
