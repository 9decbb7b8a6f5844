"""A data folder: its films, their labels and patients, cross-validation folds and sample weights."""

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
from scripts.datasets.images import network_input, read_image
from scripts.errors import DataError

# How the weight of a film in training is chosen; see `film_weights`.
Weighting = Literal["source", "cell", "class", "none"]
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True, slots=True)
class Film:
    """One labelled radiograph.

    `patient` and `source` are empty where the data folder does not give them, and `mask` is the path of its lung mask,
    if it has one. `columns` is the film's complete row in `metadata.csv`.
    """

    path: Path
    label: str
    patient: str = ""
    source: str = ""
    mask: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def read_films(folder: Path) -> list[Film]:
    """List the films of a data folder.

    The folder has a table `metadata.csv` with the columns `file` and `label`, and optionally `patient`, `source` and
    `lung_mask`. Without a table, each sub-folder is a class.

    Raises:
        DataError: the folder does not exist, holds no films, or its table is invalid.
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
        raise DataError(f"{table} names {len(absent)} files that do not exist, the first of them {absent[0]}")
    return films


def _from_sub_folders(folder: Path) -> list[Film]:
    return [
        Film(path, label.name)
        for label in sorted(path for path in folder.iterdir() if path.is_dir())
        for path in sorted(label.rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]


def class_names(films: Sequence[Film], order: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the labels of `films`, sorted or in the given `order`.

    Raises:
        DataError: the films have fewer than two labels, or `order` does not list exactly these labels.
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
    """Identify a data set: the SHA-256 over the label and the bytes of every film, independent of their order."""
    lines = sorted(f"{film.label} {hashlib.sha256(film.path.read_bytes()).hexdigest()}" for film in films)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def patient_key(film: Film) -> str:
    """Return the key that films of one patient share; a film without a patient has a key of its own."""
    return film.patient or str(film.path)


def patient_folds(films: Sequence[Film], count: int, seed: int) -> list[list[int]]:
    """Divide `films` into `count` folds with similar shares of each label and no patient in common.

    Returns:
        The indices of the films in each fold.

    Raises:
        DataError: there are too few films.
    """
    labels = [film.label for film in films]
    groups = [patient_key(film) for film in films]
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    try:
        return [test.tolist() for _, test in splitter.split(np.zeros(len(films)), labels, groups)]
    except ValueError as error:
        raise DataError(f"{len(films)} films can't be split into {count} parts: {error}") from error


def read_pixels(films: Sequence[Film], spec: InputSpec) -> UInt8Array:
    """Read all films as a network with input `spec` receives them from the service: uint8 `[N, H, W, C]`.

    Raises:
        DataError: some films can't be decoded; the message lists all of them.
    """

    def read(film: Film) -> UInt8Array | str:
        try:
            return network_input(read_image(film.path), spec)
        except InputError as error:
            return f"{film.path}: {error}"

    with ThreadPoolExecutor() as pool:
        results = list(tqdm(pool.map(read, films), total=len(films), desc="reading films", unit="film"))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise DataError(f"{len(faults)} films can't be read:\n" + "\n".join(faults))
    return np.stack([pixels for pixels in results if not isinstance(pixels, str)])


def read_lung_mask(film: Film, spec: InputSpec) -> UInt8Array:
    """Read the lung mask of `film` in the pixels of a network with input `spec`: uint8 `[H, W]`, 255 inside the lungs.

    Raises:
        InputError: the mask can't be decoded.
    """
    assert film.mask is not None
    return network_input(read_image(film.mask), spec.model_copy(update={"channels": 1}))[..., 0]


def film_weights(films: Sequence[Film], weighting: Weighting = "source") -> list[float]:
    """Return a weight for each film, with a mean of 1.

    With `none`, all films weigh the same. With `class`, each class has the same total weight, divided equally among
    its films. With `source`, each class has the same total weight, and within a class the total weight of a source is
    proportional to the square root of its number of films. With `cell`, the total weight of the films of a class from
    a source is proportional to the square root of their number, and the classes weigh what follows from that.

    Where a source holds only some classes, a network can tell the class by the source. Equal weights for all films
    leave that possible; equal total weights for all sources let the few films of a small source dominate. The square
    root lies between the two, and gave the best results (docs/model.md).
    """
    if weighting == "none":
        return [1.0] * len(films)
    cells = [(film.label, "" if weighting == "class" else film.source) for film in films]
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    if weighting == "cell":
        total = sum(size**0.5 for size in sizes.values())
        return [len(films) / (total * sizes[cell] ** 0.5) for cell in cells]
    roots = {label: sum(size**0.5 for (other, _), size in sizes.items() if other == label) for label, _ in sizes}
    return [len(films) / (len(roots) * roots[cell[0]] * sizes[cell] ** 0.5) for cell in cells]
