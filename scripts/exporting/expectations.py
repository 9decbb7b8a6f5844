"""Command-line options for the DICOM headers that a model expects."""

from __future__ import annotations

import argparse

from app.artifact.manifest import Expectation

_EXAMPLES = {"modality": "CR,DX", "body_part": "CHEST", "view": "PA,AP"}


def add_expectations(parser: argparse.ArgumentParser) -> None:
    """Add the options `--modality`, `--body-part` and `--view`, which take coded terms separated by commas."""
    for name, example in _EXAMPLES.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=example,
            help="expected value in the header of a DICOM image; other values get a warning; default: any value",
        )


def expectation_of(options: argparse.Namespace) -> Expectation:
    """Return the expectation that the options of `add_expectations` describe; `ANYTHING` if none was given."""
    given = {name: getattr(options, name) for name in _EXAMPLES}
    return Expectation(**{name: tuple(text.split(",")) for name, text in given.items() if text})
