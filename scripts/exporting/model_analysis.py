"""A Keras model, understood: what it answers, how it ends, where it can be explained, and its two parts."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from app.arrays import Float32Array, UInt8Array
from app.imaging.geometry import Box
from scripts.exporting.compiled_loss import CompiledLoss, loss_of_model
from scripts.exporting.endings import Ending, Outputs, read_ending
from scripts.exporting.feature_layers import FeatureLayers
from scripts.exporting.flat_graph import HALF_PRECISION, flatten, in_single_precision, inner_layers
from scripts.exporting.own_answers import OwnAnswers, own_answers, probes
from scripts.exporting.packing import TOLERANCE, Reference
from scripts.exporting.placement import place
from scripts.exporting.preprocessing import Preprocessing, check_channels
from scripts.exporting.scaling import scaling_warnings
from scripts.exporting.split_model import SplitModel, split_graph

# How many of the last places of a half-precision number answers may differ by, and how often the rounding that a model
# shows on the probes; but never more than the last figure.
_PLACES, _MARGIN, _MOST = 4, 3.0, 0.1


@dataclass(frozen=True, slots=True)
class ModelAnalysis:
    """A classifier in two parts and what is known of it.

    `reference` maps uint8 images `[B, H, W, C]` to the probabilities `[B, classes]` that the model itself gives, and
    `tolerance` is how precise they are; `region` is the part of the input that the features cover, None for all of it;
    `warnings` are for whoever exports it.
    """

    split: SplitModel
    ending: Ending
    reference: Reference
    tolerance: float
    region: Box | None
    warnings: tuple[str, ...]


def analyse_model(
    model: keras.Model,
    *,
    layer: str | None = None,
    preprocessing: Preprocessing = "none",
    size: tuple[int, int] | None = None,
    outputs: Outputs | None = None,
    several: bool = False,
    loss: CompiledLoss | None = None,
) -> ModelAnalysis:
    """Take `model` apart at `layer`, a name or, where names repeat, a path such as `backbone/block5_conv3`.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        layer: the feature layer; default: as `FeatureLayers.default` says.
        preprocessing: what is done to pixels 0..255 before they enter the model.
        size: (height, width) of the images, for a model that leaves it open.
        outputs: what the model's outputs are, where that can't be told from the model.
        several: whether several classes can hold at once.
        loss: what the model was compiled with, if it isn't any more.

    Raises:
        ExportError: the model can't be taken apart, or its outputs are no classifier's; the message says why.
    """
    graph = flatten(model, size)
    check_channels(preprocessing, graph.image_shape[-1])
    own = own_answers(model, preprocessing)
    images = probes(graph.image_shape)
    answers = own(images)
    ending, logits = read_ending(graph, answers, loss or loss_of_model(model), outputs, several=several)
    layers = FeatureLayers(logits.graph, logits.at)
    candidate = layers.default() if layer is None else layers.named(layer)
    name = layers.display_name(candidate)
    placement = place(logits.graph, candidate.value, name)
    warnings = scaling_warnings(graph, preprocessing, answers, own_answers(model, "rescale"), images)
    if not layers.is_passed_by_all(candidate.value):
        warnings.append(f"other paths lead around layer {name!r}: its maps show its own part in the logits only")

    def reference(images: UInt8Array) -> Float32Array:
        return ending.probabilities(own(images))

    return ModelAnalysis(
        split=split_graph(logits, ending, candidate, name, placement.layout),
        ending=ending,
        reference=reference,
        tolerance=_tolerance(model, ending, own, images, answers),
        region=placement.region,
        warnings=tuple(warnings),
    )


def _tolerance(model: keras.Model, ending: Ending, own: OwnAnswers, images: UInt8Array, answers: np.ndarray) -> float:
    """How far apart two right answers may be: the rounding of a model in half precision, against itself in single.

    The head is computed in single precision, so that the packed model lies between the two.
    """
    kinds = {layer.compute_dtype for layer in inner_layers(model)}.intersection(HALF_PRECISION)
    if not kinds:
        return TOLERANCE
    with in_single_precision([model]):
        precise = own(images)
    rounding = float(np.abs(ending.probabilities(precise) - ending.probabilities(answers)).max())
    places = max(2.0**-7 if kind == "bfloat16" else 2.0**-10 for kind in kinds)
    return min(max(_PLACES * places, _MARGIN * rounding), _MOST)
