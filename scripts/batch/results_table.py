"""The results table of a folder: a CSV file that grows image by image, and from which an interrupted run resumes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

_ROW = dict[str, str]
_BEFORE = ("file", "sha256", "model", "question", "error", "label", "probability")
_AFTER = ("novelty", "novelty_threshold", "out_of_distribution", "warnings", "width", "height", "format", "overlay")
_REGION = ("region_found", "region_share_of_heat", "region_share_of_image")
_PREFIX = "p:"


def columns(classes: Sequence[str], *, multi_label: bool = False, region: bool = False) -> list[str]:
    """Return the header of the table, which has one probability column `p:NAME` per class.

    That of a multi-label model also has a column `labels`, a JSON array of the classes that it has found, and that of a
    model that locates an organ has columns that say whether it was found and how much of heat and image lie in it.
    """
    labels, organ = ("labels",) if multi_label else (), _REGION if region else ()
    return [*_BEFORE, *labels, *(f"{_PREFIX}{name}" for name in classes), *organ, *_AFTER]


def class_columns(row: _ROW) -> dict[str, str]:
    """Return the probabilities of a row by class name."""
    return {name.removeprefix(_PREFIX): value for name, value in row.items() if name.startswith(_PREFIX)}


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What determines an answer: the file and the digest of its bytes, the model, and the text of the question."""

    file: str
    sha256: str
    model: str
    question: str


class ResultsTable:
    """The rows of the CSV file `path`: those of earlier runs, and new ones. Rows can be added in a `with` block.

    A row is on disk when `add` returns. Rows with other columns are dropped, as is an incomplete last line; their
    images are explained again.
    """

    def __init__(self, path: Path, classes: Sequence[str], *, multi_label: bool = False, region: bool = False) -> None:
        self._path = path
        self._columns = columns(classes, multi_label=multi_label, region=region)
        self._rows = {row["file"]: row for row in _read(path, self._columns)}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._write(self._rows.values())
        self._file = self._path.open("a", newline="", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    @property
    def rows(self) -> list[_ROW]:
        """All rows, sorted by file."""
        return [self._rows[file] for file in sorted(self._rows)]

    def answer(self, key: AnswerKey) -> _ROW | None:
        """Return the row with this key, or None. A row with an error does not count, so that the image is retried."""
        row = self._rows.get(key.file)
        expected = (key.sha256, key.model, key.question)
        return row if row and not row["error"] and (row["sha256"], row["model"], row["question"]) == expected else None

    def add(self, row: _ROW) -> None:
        """Append `row`; the columns that it lacks stay empty."""
        assert self._file is not None
        complete = {name: row.get(name, "") for name in self._columns}
        self._rows[row["file"]] = complete
        csv.DictWriter(self._file, self._columns).writerow(complete)
        self._file.flush()

    def keep(self, files: Iterable[str]) -> None:
        """Rewrite the table in order, with only the rows of `files`."""
        kept = set(files)
        self._rows = {file: row for file, row in self._rows.items() if file in kept}
        self._write(self.rows)

    def _write(self, rows: Iterable[_ROW]) -> None:
        """Replace the file atomically: an interruption leaves either the old or the new file."""
        partial = self._path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self._path)


def _read(path: Path, expected: list[str]) -> list[_ROW]:
    if not path.is_file():
        return []
    # An incomplete line has fewer fields than the header, or ends in the middle of a character.
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file, restval=None)
        if reader.fieldnames != expected:
            return []
        complete = [row for row in reader if None not in row and None not in row.values()]
    if complete and not path.read_bytes().endswith(b"\n"):
        complete.pop()  # the end of its last field may be missing
    return complete
