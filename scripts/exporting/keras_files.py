"""Read a Keras file and pack its model as an artefact."""

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
    """Pack `model` into `store` and return the folder of the new version.

    Args:
        model: a Functional or Sequential classifier of images `[H, W, 1 or 3]`.
        classes: the class names in the order of the model's outputs; for a one-unit sigmoid, the negative class first.
        name: the name of the model in the store.
        store: the folder of the model store.
        layer: the feature layer; by default, `split_model` chooses it.
        version: the version; by default, one above the highest.
        preprocessing: how pixels 0..255 are transformed before they enter the model.
        fit: how images are fitted to the input's shape: `squash`, `crop` or `pad`.
        expects: what the header of a DICOM image is expected to say; by default, anything.

    Raises:
        ExportError: the model can't be packed, or the export does not reproduce its predictions.
        ArtifactError: the name or the version can't be used.
    """
    parts = split_model(model, layer)
    package = Package(
        name=name,
        classes=classes,
        parts=parts,
        reference=keras_reference(model, parts.ending, preprocessing),
        preprocessing=preprocessing,
        fit=fit,
        expects=expects,
    )
    return pack(package, store, version)


def read_model(path: Path, size: tuple[int, int] | None = None) -> keras.Model:
    """Read a model from a `.keras` or `.h5` file.

    `size` (height, width) fixes the input size of a model that has none.

    Raises:
        ExportError: the file does not exist, or Keras can't read it.
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
