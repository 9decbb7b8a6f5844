"""Which films are trained on, and which are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from scripts.datasets.films import Film, folds, person
from scripts.errors import DataError


@dataclass(frozen=True, slots=True)
class Part:
    """Indices of the films to train on and of those to test on, both in rising order."""

    name: str
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def without_patients(cls, name: str, films: Sequence[Film], train: Sequence[int], test: Sequence[int]) -> Part:
        """A part whose training films show no one whom a test film shows."""
        shown = {person(films[i]) for i in test}
        return cls(name, np.array([i for i in train if person(films[i]) not in shown], int), np.array(test, int))


def selected(films: Sequence[Film], column: str, value: str) -> list[int]:
    """The indices of the films whose `column` is `value`.

    Raises:
        DataError: there are none; the message lists the values that there are.
    """
    values = _column(films, column)
    if value not in values:
        raise DataError(f"no film has {value!r} in column {column!r}; there are {', '.join(sorted(set(values)))}")
    return [i for i, found in enumerate(values) if found == value]


def by_folds(films: Sequence[Film], chosen: Sequence[int], count: int, seed: int, *, by_patient: bool) -> list[Part]:
    """Cross-validation over the films of indices `chosen`, alike in labels.

    By image, a patient's films may lie on both sides, as in much that is published: figures come out higher.

    Raises:
        DataError: there are too few films.
    """
    few = [films[i] for i in chosen]
    if by_patient:
        tests = folds(few, count, seed)
    else:
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        try:
            tests = [test.tolist() for _, test in splitter.split(few, [film.label for film in few])]
        except ValueError as error:
            raise DataError(f"{len(few)} films can't be split into {count} parts: {error}") from error
    every = np.array(chosen)
    return [Part(f"fold {n}", np.delete(every, test), every[test]) for n, test in enumerate(tests, start=1)]


def leaving_out(films: Sequence[Film], chosen: Sequence[int], column: str) -> list[Part]:
    """Of the films of indices `chosen`, those of each value of `column` once left out, and tested on.

    A value without which fewer than two classes would be left is not left out.

    Raises:
        DataError: no film has that column, or none of its values can be left out.
    """
    values = _column(films, column)
    parts = []
    for value in sorted({values[i] for i in chosen}):
        rest, test = [i for i in chosen if values[i] != value], [i for i in chosen if values[i] == value]
        part = Part.without_patients(f"{column} {value}", films, rest, test)
        if len({films[i].label for i in part.train}) > 1:
            parts.append(part)
    if len(parts) < 2:
        raise DataError(f"to leave out one {column} at a time needs two whose absence leaves two classes to train on")
    return parts


def _column(films: Sequence[Film], column: str) -> list[str]:
    if not any(column in film.columns for film in films):
        known = sorted({name for film in films for name in film.columns})
        raise DataError(f"the data has no column {column!r}; it has {', '.join(known) or 'no table'}")
    return [film.columns[column] for film in films]
