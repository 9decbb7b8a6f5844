"""`python -m scripts.export`: pack a Keras image classifier as an artefact of the model store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras

from app.artifact.store import ANYTHING, Expectation, read_manifest
from app.errors import ArtifactError
from app.imaging.geometry import Fit
from scripts.errors import ExportError, ScriptError
from scripts.exporting.expectations import add_expectations, expectation_of
from scripts.exporting.packing import PREPROCESSINGS, Package, Preprocessing, keras_reference, pack
from scripts.exporting.split_model import dissect


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
        layer: the feature layer; default: as `dissect` chooses.
        version: default: one above the highest.
        preprocessing: what is done to pixels 0..255 before they enter the model.
        fit: how images are brought to the input's size: `squash`, `crop` or `pad`.
        expects: what the header of a DICOM image for this model says; default: anything.

    Raises:
        ExportError: the model can't be packed, or its export doesn't reproduce it.
        ArtifactError: the name or version can't be used.
    """
    anatomy = dissect(model, layer)
    package = Package(
        name=name,
        classes=classes,
        anatomy=anatomy,
        reference=keras_reference(model, anatomy.ending, preprocessing),
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


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where the model is refused."""
    parser = argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__)
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("--classes", required=True, help="class names in the order of the outputs: a,b,c")
    parser.add_argument("--name", required=True, help="name in the model store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--layer", help="feature layer; default: the last one of the last convolution's size")
    parser.add_argument("--version", type=int, help="default: one above the highest")
    parser.add_argument("--preprocessing", choices=PREPROCESSINGS, default="none", help="applied to pixels 0..255")
    parser.add_argument(
        "--fit", choices=("squash", "crop", "pad"), default="squash", help="how images meet the input's shape"
    )
    parser.add_argument("--size", type=_size, metavar="HEIGHTxWIDTH", help="for a model without a fixed input size")
    add_expectations(parser)
    options = parser.parse_args(arguments)
    try:
        entry = export(
            read_model(options.model, options.size),
            tuple(part.strip() for part in options.classes.split(",")),
            options.name,
            options.store,
            layer=options.layer,
            version=options.version,
            preprocessing=options.preprocessing,
            fit=options.fit,
            expects=expectation_of(options),
        )
    except (ScriptError, ArtifactError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(f"wrote {entry}; feature layer: {read_manifest(entry).feature_layer.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
