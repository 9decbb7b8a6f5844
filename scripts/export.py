"""`python -m scripts.export`: pack a Keras image classifier as an artefact of the model store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.artifact.manifest import read_manifest
from app.errors import ArtifactError
from scripts.errors import ScriptError
from scripts.exporting.expectations import add_expectations, expectation_of
from scripts.exporting.keras_files import export, read_model
from scripts.exporting.packing import PREPROCESSINGS


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__)
    parser.add_argument("model", type=Path, help="a .keras file")
    parser.add_argument("--classes", required=True, help="class names in the order of the outputs: a,b,c")
    parser.add_argument("--name", required=True, help="name in the model store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--layer", help="feature layer; default: the last one of the last convolution's size")
    parser.add_argument("--version", type=int, help="version; default: one above the highest")
    parser.add_argument("--preprocessing", choices=PREPROCESSINGS, default="none", help="applied to pixels 0..255")
    parser.add_argument(
        "--fit", choices=("squash", "crop", "pad"), default="squash", help="how images are fitted to the input's shape"
    )
    parser.add_argument("--size", type=_size, metavar="HEIGHTxWIDTH", help="input size of a model without a fixed one")
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
