"""The table of a comparison: one row for every film."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scripts.comparing.answers import ComparedAnswers, VersionAnswers
from scripts.comparing.explanations import MEASURES, MovedMap
from scripts.comparing.figures import answer_text


def write_films_table(path: Path, answers: ComparedAnswers, truth: np.ndarray, maps: Sequence[MovedMap]) -> None:
    """Write the answers of both versions for each film and the agreement of its heatmaps to `path`, as CSV.

    Columns that end in `_1` are the first version's, those in `_2` the second's; `p_1:NAME` is a probability. What was
    not measured is empty.
    """
    columns = [
        _version_columns(number, version, answers.classes, truth)
        for number, version in enumerate((answers.first, answers.second), start=1)
    ]
    changed, explained = answers.changed, answers.first.top
    rows = [
        {
            "file": str(film.path),
            "patient": film.patient,
            "label": film.label,
            "changed": _word(changed[i]),
            "explained_class": answers.classes[explained[i]],
            **{name: _number(moved.measure(name)) for name in MEASURES},
            **{f"empty_{number}": _word(empty) for number, empty in enumerate(moved.empty, start=1)},
            **{title: values[i] for of_version in columns for title, values in of_version.items()},
        }
        for i, (film, moved) in enumerate(zip(answers.films, maps, strict=True))
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _version_columns(
    number: int, version: VersionAnswers, classes: Sequence[str], truth: np.ndarray
) -> dict[str, list[str]]:
    """Return the columns of one version by their titles, each with one text for every film."""
    found, novel = version.found(classes), version.novel
    unknown = [""] * len(truth)
    return {
        f"answer_{number}": [answer_text(holds, classes) for holds in found],
        f"right_{number}": [_word(right) for right in (found == truth).all(axis=-1)],
        f"novelty_{number}": unknown if novel is None else [_number(score) for score in version.novelty],
        f"out_of_distribution_{number}": unknown if novel is None else [_word(flag) for flag in novel],
        **{f"p_{number}:{name}": [_number(p) for p in version.probabilities[:, i]] for i, name in enumerate(classes)},
    }


def _word(flag: bool | np.bool_) -> str:  # noqa: FBT001  # it only spells the flag
    return str(bool(flag)).lower()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
