"""The table of a folder's answers: a CSV that grows film by film, and from which an interrupted run goes on."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

_ROW = dict[str, str]
_BEFORE = ("file", "sha256", "model", "question", "error", "label", "probability")
_AFTER = ("novelty", "novelty_threshold", "out_of_distribution", "warnings", "width", "height", "format", "overlay")
_PREFIX = "p:"


def columns(classes: Sequence[str]) -> list[str]:
    """The table's header: what was asked of which bytes, the answer, one probability a class, what to mind."""
    return [*_BEFORE, *(f"{_PREFIX}{name}" for name in classes), *_AFTER]


def class_columns(row: _ROW) -> dict[str, str]:
    """The probabilities of a row, by class name."""
    return {name.removeprefix(_PREFIX): value for name, value in row.items() if name.startswith(_PREFIX)}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What makes an answer the same: the bytes of a film, the model, and the question in words."""

    file: str
    sha256: str
    model: str
    question: str


class ResultsTable:
    """The rows of `path`, those that were there and those that are added; as a context, open for adding.

    A row is on disk when `add` returns. A last line that was cut short is dropped, as are rows of other columns; they
    are answered anew.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._columns = columns(classes)
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
        """One row a file, by name."""
        return [self._rows[file] for file in sorted(self._rows)]

    def answer(self, inquiry: Inquiry) -> _ROW | None:
        """The row that answers `inquiry`; None if there is none, or only an error, which may have been mended."""
        row = self._rows.get(inquiry.file)
        asked = (inquiry.sha256, inquiry.model, inquiry.question)
        return row if row and not row["error"] and (row["sha256"], row["model"], row["question"]) == asked else None

    def add(self, row: _ROW) -> None:
        """Append `row`, which lacks what does not apply."""
        assert self._file is not None
        whole = {name: row.get(name, "") for name in self._columns}
        self._rows[row["file"]] = whole
        csv.DictWriter(self._file, self._columns).writerow(whole)
        self._file.flush()

    def keep(self, files: Iterable[str]) -> None:
        """Write the table anew, in order, with the rows of `files` only."""
        kept = set(files)
        self._rows = {file: row for file, row in self._rows.items() if file in kept}
        self._write(self.rows)

    def _write(self, rows: Iterable[_ROW]) -> None:
        """Replace the file at once: an interruption leaves the old one or the new one."""
        fresh = self._path.with_suffix(".partial")
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        fresh.replace(self._path)


def _read(path: Path, expected: list[str]) -> list[_ROW]:
    if not path.is_file():
        return []
    # Lines that were cut short have fewer fields than the header, or bytes that are half a letter.
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file, restval=None)
        if reader.fieldnames != expected:
            return []
        whole = [row for row in reader if None not in row and None not in row.values()]
    if whole and not path.read_bytes().endswith(b"\n"):
        whole.pop()  # its last field may lack its end
    return whole
