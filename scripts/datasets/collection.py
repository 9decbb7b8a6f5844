"""Several data folders taken together: the films of the classes, and those of other labels."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from scripts.datasets.films import Film, read_films
from scripts.datasets.splits import select_films
from scripts.errors import DataError


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken from data folders.

    Films with a label in `others` belong to no class; they serve the lung segmenter and tests of the novelty score.
    `excluded` is a column of `metadata.csv` and a value: films that have it are not trained on.
    """

    folders: tuple[Path, ...]
    others: tuple[str, ...] = ()
    excluded: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """The films of data folders: those of the classes, the excluded ones among these, and those of other labels.

    `masked` are all films that have a lung mask, whatever their label.
    """

    films: list[Film]
    excluded: list[Film]
    others: list[Film]
    masked: list[Film]


def read_collection(selection: Selection) -> Collection:
    """Read the data folders of `selection`.

    Raises:
        DataError: a folder can't be used, no film has a label of `others`, or none has the excluded value.
    """
    found = [film for folder in selection.folders for film in read_films(folder)]
    labels = {film.label for film in found}
    if absent := set(selection.others) - labels:
        raise DataError(f"no film has the label {min(absent)!r}; there are {', '.join(sorted(labels))}")
    others = [film for film in found if film.label in selection.others]
    films = [film for film in found if film.label not in selection.others]
    out = set() if selection.excluded is None else set(select_films(films, *selection.excluded))
    return Collection(
        films=[film for i, film in enumerate(films) if i not in out],
        excluded=[film for i, film in enumerate(films) if i in out],
        others=others,
        masked=[film for film in found if film.mask is not None],
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a selection to a command line."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="a folder with metadata.csv, or with one sub-folder per class; may be given several times",
    )
    parser.add_argument(
        "--others",
        metavar="LABEL",
        action="append",
        default=[],
        help="a label of films that belong to no class; may be given several times",
    )
    parser.add_argument("--exclude", type=column_and_value, metavar="COLUMN=VALUE", help="do not train on these films")


def selection_of(options: argparse.Namespace) -> Selection:
    """Return the selection that the options of `add_data_options` describe."""
    return Selection(tuple(options.data), tuple(options.others), options.exclude)


def column_and_value(given: str) -> tuple[str, str]:
    """Split COLUMN=VALUE, the value of an option.

    Raises:
        argparse.ArgumentTypeError: there is no `=`.
    """
    column, equals, value = given.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected COLUMN=VALUE, got {given!r}")
    return column, value
