"""How far the explanations of all films moved, with a control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.comparing.agreement import HOTTEST, Agreement
from scripts.comparing.answers import ComparedAnswers
from scripts.datasets.films import patient_key
from scripts.evaluation.statistics import mean_by_patient, proportion

MEASURES = ("rank_correlation", "hottest_overlap", "shared_heat")


@dataclass(frozen=True, slots=True)
class MovedMap:
    """The heatmaps of one film: which are empty, and their agreement, None unless both have heat in the image."""

    empty: tuple[bool, bool]
    agreement: Agreement | None

    def measure(self, name: str) -> float | None:
        """Return the measure `name` of `MEASURES`, or None if there is none."""
        return None if self.agreement is None else getattr(self.agreement, name)


def moved_maps(answers: ComparedAnswers) -> list[MovedMap]:
    """Compare the heatmaps of each film."""
    maps = []
    for film in range(len(answers.films)):
        one, other = answers.grids(film)
        maps.append(MovedMap((not one.any(), not other.any()), answers.agreement(film)))
    return maps


def explanation_figures(answers: ComparedAnswers, maps: Sequence[MovedMap]) -> dict[str, Any]:
    """Summarise `maps`: means by patient with intervals, and quantiles over films.

    The `control` is the agreement of a film's heatmap with the second version's heatmap of another film, for which the
    first version gives the same answer: as much agreement comes about without looking at the same image.
    """
    patients = [patient_key(film) for film in answers.films]
    agreements = [one.agreement for one in maps]
    controls = [
        None if other is None else answers.agreement(film, other) for film, other in enumerate(_others(answers))
    ]
    empty = np.array([one.empty for one in maps])
    return {
        "explained": "the most probable class of the first version",
        "method": "gradcam",
        "hottest_share": HOTTEST,
        "films": sum(one is not None for one in agreements),
        "empty": {
            "both": int(empty.all(axis=1).sum()),
            "only_first": int((empty[:, 0] & ~empty[:, 1]).sum()),
            "only_second": int((~empty[:, 0] & empty[:, 1]).sum()),
        },
        "vanished": proportion(int((~empty[:, 0] & empty[:, 1]).sum()), len(maps)),
        "uniform": sum(one is not None and one.rank_correlation is None for one in agreements),
        **{
            name: {
                "mean": mean_by_patient(_values(agreements, name), patients),
                "quantiles": _quantiles(_values(agreements, name)),
                "control": mean_by_patient(_values(controls, name), patients),
            }
            for name in MEASURES
        },
    }


def _others(answers: ComparedAnswers) -> list[int | None]:
    """Return for each film the next one of another patient with the same top class of the first version, if any."""
    top, patients = answers.first.top, [patient_key(film) for film in answers.films]
    others: list[int | None] = [None] * len(top)
    for members in (np.flatnonzero(top == index).tolist() for index in np.unique(top)):
        for position, film in enumerate(members):
            following = (members[(position + step) % len(members)] for step in range(1, len(members)))
            others[film] = next((other for other in following if patients[other] != patients[film]), None)
    return others


def _values(agreements: Sequence[Agreement | None], name: str) -> list[float | None]:
    return [None if one is None else getattr(one, name) for one in agreements]


def _quantiles(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {f"{share:.2f}": float(np.quantile(known, share)) for share in (0.05, 0.25, 0.5)}
