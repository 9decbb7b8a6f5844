"""A data folder: its films, their labels and patients, and how they are split."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from app.arrays import UInt8Array
from app.artifact.manifest import InputSpec
from app.errors import InputError
from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify
from scripts.errors import DataError

MAX_PIXELS = 200_000_000
# How much each film weighs in training; `film_weights` says how.
Weighting = Literal["source", "class", "none"]
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True, slots=True)
class Film:
    """One labelled image; `patient` and `source` are "" where the data folder doesn't say.

    `columns` is its row in the folder's table, all of it.
    """

    path: Path
    label: str
    patient: str = ""
    source: str = ""
    mask: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of films: `train` to fit, `validation` to stop and calibrate by, `test` to report, touched once."""

    train: list[int]
    validation: list[int]
    test: list[int]


def read_films(folder: Path) -> list[Film]:
    """The films of `folder`: those of its `metadata.csv` (`file`, `label`, and where known `patient`, `source`,
    `lung_mask`), or else of one sub-folder per class.

    Raises:
        DataError: there is no such folder, it holds no films, or its table can't be used.
    """
    if not folder.is_dir():
        raise DataError(f"there is no data folder {folder}")
    table = folder / "metadata.csv"
    films = _from_table(table) if table.is_file() else _from_sub_folders(folder)
    if not films:
        raise DataError(f"{folder} holds no films: expected metadata.csv, or one sub-folder per class")
    return films


def _from_table(table: Path) -> list[Film]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if missing := {"file", "label"} - set(rows.fieldnames or ()):
            raise DataError(f"{table} has no column {', '.join(sorted(missing))}")
        films = [
            Film(
                path=table.parent / row["file"],
                label=row["label"],
                patient=row.get("patient") or "",
                source=row.get("source") or "",
                mask=table.parent / row["lung_mask"] if row.get("lung_mask") else None,
                columns=row,
            )
            for row in rows
        ]
    if absent := [str(film.path) for film in films if not film.path.is_file()]:
        raise DataError(f"{table} names {len(absent)} files that aren't there, first {absent[0]}")
    return films


def _from_sub_folders(folder: Path) -> list[Film]:
    return [
        Film(path, label.name)
        for label in sorted(path for path in folder.iterdir() if path.is_dir())
        for path in sorted(label.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]


def class_names(films: Sequence[Film], order: Sequence[str] | None = None) -> tuple[str, ...]:
    """The labels, sorted, or in `order` if that names them all.

    Raises:
        DataError: `order` is not exactly the labels that the films have, or there are fewer than two.
    """
    found = sorted({film.label for film in films})
    if len(found) < 2:
        raise DataError(f"a classifier needs two classes; the films have {found}")
    if order is None:
        return tuple(found)
    if sorted(order) != found:
        raise DataError(f"--classes says {list(order)}; the films have {found}")
    return tuple(order)


def digest(films: Sequence[Film]) -> str:
    """SHA-256 over every film's label and bytes, in any order of the films: what the data was."""
    lines = sorted(f"{film.label} {hashlib.sha256(film.path.read_bytes()).hexdigest()}" for film in films)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def person(film: Film) -> str:
    """Who is on it; a film without a patient is one."""
    return film.patient or str(film.path)


def folds(films: Sequence[Film], count: int, seed: int) -> list[list[int]]:
    """`count` disjoint lists of indices, alike in labels; no patient is in two. A film without a patient is one."""
    labels = [film.label for film in films]
    groups = [person(film) for film in films]
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    try:
        return [test.tolist() for _, test in splitter.split(np.zeros(len(films)), labels, groups)]
    except ValueError as error:
        raise DataError(f"{len(films)} films can't be split into {count} parts: {error}") from error


def split(films: Sequence[Film], seed: int) -> Split:
    """Three fifths to train on, one to validate, one to test, by patient."""
    test, validation, *train = folds(films, 5, seed)
    return Split(sorted(index for part in train for index in part), sorted(validation), sorted(test))


def read_pixels(films: Sequence[Film], spec: InputSpec) -> UInt8Array:
    """All films as a network with input `spec` takes them, by the server's own code: uint8 `[N, H, W, C]`.

    Raises:
        DataError: films that can't be decoded; the message names them all.
    """

    def read(film: Film) -> UInt8Array | str:
        try:
            picture = decode(identify(film.path.read_bytes()), max_pixels=MAX_PIXELS)
        except InputError as error:
            return f"{film.path}: {error}"
        return to_input(
            picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit, resize=spec.resize
        )

    with ThreadPoolExecutor() as pool:
        read_all = list(tqdm(pool.map(read, films), total=len(films), desc="reading films", unit="film"))
    faults = [fault for fault in read_all if isinstance(fault, str)]
    if faults:
        raise DataError(f"{len(faults)} films can't be read:\n" + "\n".join(faults))
    return np.stack([pixels for pixels in read_all if not isinstance(pixels, str)])


def film_weights(films: Sequence[Film], weighting: Weighting = "source") -> list[float]:
    """A weight per film, mean 1.

    `none`: every film weighs the same. `class`: every class does. `source`: every class does, and within it a source
    weighs as the root of its films.

    Where a source holds only some classes, a network can tell the class by the source. Equal weights for all films
    leave it that; equal weights for all sources let the few films of a small one decide. The root lies half-way, and
    held up best (docs/model.md).
    """
    if weighting == "none":
        return [1.0] * len(films)
    cells = [(film.label, film.source if weighting == "source" else "") for film in films]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    roots = {label: sum(size**0.5 for (other, _), size in sizes.items() if other == label) for label, _ in sizes}
    return [len(films) / (len(roots) * roots[cell[0]] * sizes[cell] ** 0.5) for cell in cells]
