"""Export of a Keras model as an artefact."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import keras

from app.artifact.manifest import ANYTHING, DEFAULT_THRESHOLD, Expectation
from app.imaging.geometry import Fit, Resize
from scripts.errors import ExportError
from scripts.exporting.compiled_loss import CompiledLoss
from scripts.exporting.endings import Outputs
from scripts.exporting.model_analysis import analyse_model
from scripts.exporting.packing import Package, pack
from scripts.exporting.preprocessing import Preprocessing


def _to_stderr(warning: str) -> None:
    print(f"warning: {warning}", file=sys.stderr)


def export(
    model: keras.Model,
    classes: tuple[str, ...],
    name: str,
    store: Path,
    *,
    layer: str | None = None,
    version: int | None = None,
    preprocessing: Preprocessing = "none",
    fit: Fit = "squash",
    resize: Resize = "antialias",
    expects: Expectation = ANYTHING,
    size: tuple[int, int] | None = None,
    outputs: Outputs | None = None,
    thresholds: tuple[float, ...] | None = None,
    loss: CompiledLoss | None = None,
    warn: Callable[[str], None] = _to_stderr,
) -> Path:
    """Pack `model` into `store`, and return the folder of the new version.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        classes: the class names, in the order of the model's outputs; for a single unit, the negative class first.
        name: the model's name in the store.
        store: the folder of the model store.
        layer: the feature layer; default: the last layer on all paths to the logits that has the grid of the last
            convolution.
        version: the version number; default: one above the highest.
        preprocessing: the conversion of pixels 0..255 to the input of the model.
        fit: how images are fitted to the shape of the input: `squash`, `crop` or `pad`.
        resize: how pixels are resampled: `antialias`, `bilinear` or `nearest`.
        expects: the expected values of a DICOM header; default: any.
        size: (height, width) of the input, for a model without a fixed size.
        outputs: the meaning of the model's outputs, if it can't be inferred from the model.
        thresholds: the probabilities from which the classes of a multi-label model are positive: one per class, or
            one for all; default: 0.5.
        loss: the loss that the model was compiled with, if the model does not have it.
        warn: called with each warning about an option.

    Raises:
        ExportError: if the model can't be packed, or if the export does not reproduce its predictions.
        ArtifactError: if the name or the version can't be used.
    """
    found = analyse_model(
        model,
        layer=layer,
        preprocessing=preprocessing,
        size=size,
        outputs=outputs,
        several=thresholds is not None,
        loss=loss,
    )
    for warning in found.warnings:
        warn(warning)
    package = Package(
        name=name,
        classes=classes,
        parts=found.split,
        reference=found.reference,
        tolerance=found.tolerance,
        preprocessing=preprocessing,
        fit=fit,
        resize=resize,
        expects=expects,
        task=found.ending.task,
        thresholds=_for_each(classes, thresholds) if found.ending.task == "multi_label" else thresholds,
        feature_region=found.region,
    )
    return pack(package, store, version)


def _for_each(classes: tuple[str, ...], thresholds: tuple[float, ...] | None) -> tuple[float, ...]:
    """Return one threshold per class."""
    given = thresholds or (DEFAULT_THRESHOLD,)
    if len(given) == 1:
        given *= len(classes)
    if len(given) != len(classes) or not all(0 <= threshold <= 1 for threshold in given):
        raise ExportError(f"--thresholds takes one number, or {len(classes)}, in 0..1; got {len(given)}")
    return given
