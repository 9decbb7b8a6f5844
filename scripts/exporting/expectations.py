"""What DICOM headers a model expects, as options of command lines."""

from __future__ import annotations

import argparse

from app.artifact.manifest import Expectation

_WORDS = {"modality": "CR,DX", "body_part": "CHEST", "view": "PA,AP"}


def add_expectations(parser: argparse.ArgumentParser) -> None:
    """Add `--modality`, `--body-part` and `--view`: coded terms, separated by commas."""
    for name, example in _WORDS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=example,
            help="what the header of a DICOM film for this model says; others get a warning; default: anything",
        )


def expectation_of(options: argparse.Namespace) -> Expectation:
    """What the options say; `ANYTHING` where none was given."""
    given = {name: getattr(options, name) for name in _WORDS}
    return Expectation(**{name: tuple(text.split(",")) for name, text in given.items() if text})
