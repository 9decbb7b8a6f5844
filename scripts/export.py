"""`python -m scripts.export`: pack a Keras image classifier as an artefact of the model store."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from app.artifact.manifest import read_manifest
from app.errors import ArtifactError
from scripts.errors import ExportError, ScriptError
from scripts.exporting.expectations import add_expectations, expectation_of
from scripts.exporting.keras_files import export
from scripts.exporting.model_files import Trust, read_model
from scripts.exporting.preprocessing import PREPROCESSINGS, Preprocessing, parse

LONGEST = 300


def _option(read: Callable[[str], object], form: str) -> Callable[[str], object]:
    """Return `read` as the type of an option, with `form` in its error messages."""

    def option(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {form}: {error}") from error

    return option


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    size = int(height), int(width or height)
    if min(size) < 1:
        raise ValueError("a side has at least one pixel")
    return size


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _preprocessing(text: str) -> Preprocessing:
    return parse(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__)
    parser.add_argument("model", type=Path, help="a .keras or .h5 file of Keras 2 or 3, or a file of weights")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--classes", help="class names in the order of the outputs: a,b,c")
    names.add_argument(
        "--classes-file", type=Path, help="file with one class name per line, a JSON list, or JSON {name: index}"
    )
    parser.add_argument("--name", required=True, help="name in the model store")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--layer", help="feature layer; default: the last one with the grid of the last convolution")
    parser.add_argument("--version", type=int, help="default: one above the highest")
    parser.add_argument(
        "--preprocessing",
        type=_option(_preprocessing, "a preprocessing"),
        default="none",
        metavar=f"{{{','.join(PREPROCESSINGS)},MEAN/DEVIATION}}",
        help="applied to pixels 0..255; example of MEAN/DEVIATION: 123.7,116.3,103.5/58.4,57.1,57.4",
    )
    parser.add_argument(
        "--fit",
        choices=("squash", "crop", "pad"),
        default="squash",
        help="how images are fitted to the shape of the input",
    )
    parser.add_argument(
        "--resize",
        choices=("antialias", "bilinear", "nearest"),
        default="antialias",
        help="how pixels are resampled; image_dataset_from_directory uses bilinear, load_img uses nearest",
    )
    parser.add_argument(
        "--size", type=_option(_size, "a size"), metavar="SIDE|HEIGHTxWIDTH", help="for a model without a fixed size"
    )
    parser.add_argument("--outputs", choices=("logits", "probabilities"), help="the meaning of the model's outputs")
    parser.add_argument(
        "--thresholds",
        type=_option(_numbers, "a list of numbers"),
        help="for multi-label models: the probability from which each class is positive, or one for all; default: 0.5",
    )
    parser.add_argument("--architecture", type=Path, help="for a file of weights: the output of model.to_json()")
    parser.add_argument(
        "--custom", type=Path, metavar="MODULE.PY", help="Python file that defines custom layers of the model"
    )
    parser.add_argument(
        "--unsafe-lambda",
        action="store_true",
        help="run the Python code of Lambda layers; use it only for files that you trust",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_expectations(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1, with a message on stderr, if the model can't be packed."""
    options = _parser().parse_args(arguments)
    if not options.debug:
        _silence()
    try:
        entry = _run(options)
    except (ScriptError, ArtifactError) as error:
        if options.debug:
            raise
        _refuse(str(error))
        return 1
    except Exception as error:  # Keras and TensorFlow do not document their exceptions
        if options.debug:
            raise
        _refuse(f"{options.model} could not be packed: {type(error).__name__}: {error}; --debug shows the traceback")
        return 1
    print(f"wrote {entry}; feature layer: {read_manifest(entry).feature_layer.name}")
    return 0


def _run(options: argparse.Namespace) -> Path:
    trust = Trust(options.custom, options.unsafe_lambda)
    classes = _names(options)
    file = read_model(options.model, architecture=options.architecture, trust=trust)
    return export(
        file.model,
        classes,
        options.name,
        options.store,
        layer=options.layer,
        version=options.version,
        preprocessing=options.preprocessing,
        fit=options.fit,
        resize=options.resize,
        expects=expectation_of(options),
        size=options.size,
        outputs=options.outputs,
        thresholds=options.thresholds,
        loss=file.loss,
        warn=lambda warning: print(f"export: warning: {warning}", file=sys.stderr),
    )


def _names(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the class names of `--classes` or `--classes-file`."""
    if options.classes is not None:
        return tuple(part.strip() for part in options.classes.split(","))
    try:
        text = options.classes_file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(
            f"{options.classes_file} does not contain class names, one per line or as JSON: {error}"
        ) from error
    if isinstance(found, dict):  # as `class_indices` of Keras's generators: {"cat": 0}, or inverted
        by_index = {str(value): key for key, value in found.items()} if all(map(_is_index, found.values())) else found
        found = [by_index[index] for index in sorted(by_index, key=int)]
    return tuple(str(name).strip() for name in found if str(name).strip())


def _is_index(value: object) -> bool:
    return isinstance(value, int)


def _silence() -> None:
    """Suppress the warnings of Keras and TensorFlow, so that stderr contains only messages of this command."""
    warnings.simplefilter("ignore")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _refuse(reason: str) -> None:
    """Print an error message as one line of at most `LONGEST` characters."""
    sentence = " ".join(f"export: {reason}".split())
    print(sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
