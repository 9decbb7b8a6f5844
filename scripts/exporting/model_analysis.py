"""Analysis of a Keras classifier: its outputs, its feature layer, and its split into a trunk and a head."""

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

# The tolerance for half precision: the number of units in the last place, or the multiple of the rounding error that
# the probes show, whichever is larger; but at most the last number.
_PLACES, _MARGIN, _MOST = 4, 3.0, 0.1


@dataclass(frozen=True, slots=True)
class ModelAnalysis:
    """The result of an analysis: the split classifier, and its properties.

    `reference` maps uint8 images `[B, H, W, C]` to the probabilities `[B, classes]` of the original model, and
    `tolerance` is their precision. `region` is the part of the input that the features cover, None for all of it.
    `warnings` are messages for the user.
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
    """Analyse `model` and split it at `layer`.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        layer: the name of the feature layer or, if names repeat, its path, such as `backbone/block5_conv3`; default:
            that of `FeatureLayers.default`.
        preprocessing: the conversion of pixels 0..255 to the input of the model.
        size: (height, width) of the images, for a model without a fixed size.
        outputs: the meaning of the model's outputs, if it can't be inferred from the model.
        several: whether an image can belong to several classes.
        loss: the loss that the model was compiled with, if the model does not have it.

    Raises:
        ExportError: if the model can't be split, or if its outputs are not those of a classifier.
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
        warnings.append(
            f"other paths lead around layer {name!r}: its maps show only its own contribution to the logits"
        )

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
    """Return the tolerance of probabilities, measured as the difference between half and single precision.

    The packed model lies between the two, because its head computes in single precision.
    """
    kinds = {layer.compute_dtype for layer in inner_layers(model)}.intersection(HALF_PRECISION)
    if not kinds:
        return TOLERANCE
    with in_single_precision([model]):
        precise = own(images)
    rounding = float(np.abs(ending.probabilities(precise) - ending.probabilities(answers)).max())
    places = max(2.0**-7 if kind == "bfloat16" else 2.0**-10 for kind in kinds)
    return min(max(_PLACES * places, _MARGIN * rounding), _MOST)
