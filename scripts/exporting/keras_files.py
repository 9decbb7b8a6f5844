"""A Keras file as an artefact."""

from __future__ import annotations

from pathlib import Path

import keras

from app.artifact.manifest import ANYTHING, Expectation
from app.imaging.geometry import Fit
from scripts.errors import ExportError
from scripts.exporting.packing import Package, Preprocessing, keras_reference, pack
from scripts.exporting.split_model import split_model


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
    expects: Expectation = ANYTHING,
) -> Path:
    """Pack `model` into `store` and return the new version's folder.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        classes: their names, in the order of the model's outputs; for a one-unit sigmoid the negative class first.
        name: the model's name in the store.
        store: the model store's folder.
        layer: the feature layer; default: as `split_model` chooses.
        version: default: one above the highest.
        preprocessing: what is done to pixels 0..255 before they enter the model.
        fit: how images are brought to the input's size: `squash`, `crop` or `pad`.
        expects: what the header of a DICOM image for this model says; default: anything.

    Raises:
        ExportError: the model can't be packed, or its export doesn't reproduce it.
        ArtifactError: the name or version can't be used.
    """
    split = split_model(model, layer)
    package = Package(
        name=name,
        classes=classes,
        split=split,
        reference=keras_reference(model, split.ending, preprocessing),
        preprocessing=preprocessing,
        fit=fit,
        expects=expects,
    )
    return pack(package, store, version)


def read_model(path: Path, size: tuple[int, int] | None = None) -> keras.Model:
    """Read a `.keras` (or `.h5`) file; `size` (height, width) gives a model without a fixed input size one.

    Raises:
        ExportError: there is no such file, or Keras can't read it.
    """
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ExportError(f"Keras {keras.__version__} can't read {path}: {error}") from error
    if size is None:
        return model
    image = keras.Input((*size, model.input_shape[-1]))
    return keras.Model(image, model(image))
