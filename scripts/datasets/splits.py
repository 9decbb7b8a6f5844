"""Train-test splits: which films a model is trained on, and which it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from scripts.datasets.films import Film, patient_folds, patient_key
from scripts.errors import DataError


@dataclass(frozen=True, slots=True)
class TrainTestSplit:
    """The indices of the films to train on and of the films to test on, both ascending."""

    name: str
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def by_patient(cls, name: str, films: Sequence[Film], train: Sequence[int], test: Sequence[int]) -> TrainTestSplit:
        """Create a split that leaves out of `train` every film of a patient who also appears in `test`."""
        tested = {patient_key(films[i]) for i in test}
        kept = [i for i in train if patient_key(films[i]) not in tested]
        return cls(name, np.array(kept, int), np.array(test, int))


def select_films(films: Sequence[Film], column: str, value: str) -> list[int]:
    """Return the indices of the films that have `value` in `column`.

    Raises:
        DataError: no film has this value; the message lists the values that exist.
    """
    values = _column(films, column)
    if value not in values:
        raise DataError(f"no film has {value!r} in column {column!r}; there are {', '.join(sorted(set(values)))}")
    return [i for i, found in enumerate(values) if found == value]


def select_sources(films: Sequence[Film], sources: Sequence[tuple[str, str]]) -> list[int]:
    """Return the indices of the films whose label and source are a pair of `sources`.

    This composes a data set as much published work does: each class from an archive of its own.

    Raises:
        DataError: no film has one of the pairs.
    """
    pairs = [(film.label, film.source) for film in films]
    if absent := [pair for pair in sources if pair not in pairs]:
        raise DataError(f"no film of source {absent[0][1]!r} has the label {absent[0][0]!r}")
    return [i for i, pair in enumerate(pairs) if pair in set(sources)]


def k_fold(
    films: Sequence[Film], chosen: Sequence[int], count: int, seed: int, *, by_patient: bool
) -> list[TrainTestSplit]:
    """Split the films with the indices `chosen` for a `count`-fold cross-validation, stratified by label.

    Unless the split is `by_patient`, films of one patient may be in both the training and the test set. Much published
    work splits this way, which raises the figures.

    Raises:
        DataError: there are too few films.
    """
    selection = [films[i] for i in chosen]
    if by_patient:
        tests = patient_folds(selection, count, seed)
    else:
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        try:
            tests = [test.tolist() for _, test in splitter.split(selection, [film.label for film in selection])]
        except ValueError as error:
            raise DataError(f"{len(selection)} films can't be split into {count} parts: {error}") from error
    indices = np.array(chosen)
    return [
        TrainTestSplit(f"fold {n}", np.delete(indices, test), indices[test]) for n, test in enumerate(tests, start=1)
    ]


def leave_one_group_out(films: Sequence[Film], chosen: Sequence[int], column: str) -> list[TrainTestSplit]:
    """Split the films with the indices `chosen` once for each value of `column`: test on that value, train on the rest.

    A value is skipped if the films without it have fewer than two classes.

    Raises:
        DataError: no film has the column, or fewer than two of its values can be left out.
    """
    values = _column(films, column)
    splits = []
    for value in sorted({values[i] for i in chosen}):
        rest, test = [i for i in chosen if values[i] != value], [i for i in chosen if values[i] == value]
        split = TrainTestSplit.by_patient(f"{column} {value}", films, rest, test)
        if len({films[i].label for i in split.train}) > 1:
            splits.append(split)
    if len(splits) < 2:
        raise DataError(
            f"leaving out one {column} at a time needs two values without which the films still have two classes"
        )
    return splits


def _column(films: Sequence[Film], column: str) -> list[str]:
    if not any(column in film.columns for film in films):
        known = sorted({name for film in films for name in film.columns})
        raise DataError(f"the data has no column {column!r}; it has {', '.join(known) or 'no table'}")
    return [film.columns.get(column, "") for film in films]


def leave_two_groups_out(
    films: Sequence[Film], chosen: Sequence[int], column: str, first: str, least: int = 30
) -> list[TrainTestSplit]:
    """Split the films once for each pair of values of `column`: test on the films of label `first` in one of them
    against those of the other labels in the other, and train on the films that have neither value.

    Where most sources hold one label only, this is how a model is judged on sources that it never saw. Both parts of a
    test have at least `least` films.

    Raises:
        DataError: no film has the column, or there is no such pair.
    """
    values = _column(films, column)
    parts: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    for i in chosen:
        parts[films[i].label == first].setdefault(values[i], []).append(i)
    splits = []
    for one, others in sorted(parts[False].items()):
        for other, firsts in sorted(parts[True].items()):
            rest = [i for i in chosen if values[i] not in (one, other)]
            if one != other and min(len(others), len(firsts)) >= least and len({films[i].label for i in rest}) > 1:
                splits.append(TrainTestSplit.by_patient(f"{one} against {other}", films, rest, sorted(others + firsts)))
    if not splits:
        raise DataError(f"no two values of {column} have {least} films each, of {first} and of other labels")
    return splits
