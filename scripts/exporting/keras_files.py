"""A Keras model as an artefact."""

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
    """Pack `model` into `store` and return the new version's folder.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        classes: their names, in the order of the model's outputs; for a lone unit the negative class first.
        name: the model's name in the store.
        store: the model store's folder.
        layer: the feature layer; default: the last one that all paths go through and that has the last convolution's
            grid.
        version: default: one above the highest.
        preprocessing: what is done to pixels 0..255 before they enter the model.
        fit: how images are brought to the input's shape: `squash`, `crop` or `pad`.
        resize: how their pixels are resampled: `antialias`, `bilinear` or `nearest`.
        expects: what the header of a DICOM image for this model says; default: anything.
        size: (height, width) of the input, for a model that leaves it open.
        outputs: what the model's outputs are, where that can't be told from the model.
        thresholds: the probabilities from which on the classes of a multi-label model hold: one for each, or one for
            all; default: 0.5.
        loss: what the model was compiled with, if it isn't any more.
        warn: is given each reason to think again about an option.

    Raises:
        ExportError: the model can't be packed, or its export doesn't reproduce it.
        ArtifactError: the name or version can't be used.
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
        region=found.region,
    )
    return pack(package, store, version)


def _for_each(classes: tuple[str, ...], thresholds: tuple[float, ...] | None) -> tuple[float, ...]:
    """One threshold for each class."""
    given = thresholds or (DEFAULT_THRESHOLD,)
    if len(given) == 1:
        given *= len(classes)
    if len(given) != len(classes) or not all(0 <= threshold <= 1 for threshold in given):
        raise ExportError(f"--thresholds takes one number, or {len(classes)}, of 0..1; got {len(given)}")
    return given
