"""The requirements of a release: a threshold file, and which of its thresholds a comparison meets."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.errors import CompareError

Share = Annotated[float, Field(ge=0, le=1)]


class Requirements(BaseModel):
    """The content of a threshold file; what is None is not required.

    "max" keys are upper limits and "min" keys lower ones, both inclusive. `judged_by` says which end of a figure they
    limit: its value, or the less favourable end of its 95 % interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    judged_by: Literal["value", "interval"] = "value"
    min_films: Annotated[int, Field(ge=1)] | None = None
    max_changed_answers: Share | None = None
    max_became_wrong: Share | None = None
    min_accuracy: Share | None = None
    max_accuracy_loss: Share | None = None
    min_area: Share | None = None
    max_area_loss: Share | None = None
    max_calibration_error: Share | None = None
    max_calibration_loss: Share | None = None
    max_changed_novelty: Share | None = None
    min_rank_correlation: Annotated[float, Field(ge=-1, le=1)] | None = None
    min_hottest_overlap: Share | None = None
    min_shared_heat: Share | None = None
    max_vanished_maps: Share | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a requirement limits, in words, and its figure: `value`, `low` and `high`, None if it was not measured."""

    subject: str
    figure: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the requirement `key` is met, and a sentence that says so."""

    key: str
    met: bool
    sentence: str


def read_requirements(path: Path) -> Requirements:
    """Read a threshold file, TOML if its name ends in `.toml`, otherwise JSON.

    Raises:
        CompareError: the file can't be read, has an unknown key or a value out of range, or requires nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        requirements = Requirements.model_validate(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise CompareError(f"the threshold file {path} can't be read: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        keys = ", ".join(Requirements.model_fields)
        raise CompareError(f"the threshold file {path} is not valid: {faults}; its keys are {keys}") from error
    if not _limits(requirements):
        raise CompareError(f"the threshold file {path} requires nothing; its keys are {', '.join(_MEASUREMENTS)}")
    return requirements


def judge(requirements: Requirements, figures: dict[str, Any]) -> list[Verdict]:
    """Judge each requirement by the figures of a comparison. What was not measured does not meet its requirement."""
    return [
        _verdict(key, limit, measurement, requirements.judged_by)
        for key, limit in _limits(requirements).items()
        for measurement in _MEASUREMENTS[key](figures) or [Measurement(key, None)]
    ]


def _limits(requirements: Requirements) -> dict[str, float]:
    return requirements.model_dump(exclude={"judged_by"}, exclude_none=True)


def _verdict(key: str, limit: float, measurement: Measurement, judged_by: str) -> Verdict:
    figure, upper = measurement.figure, key.startswith("max_")
    if figure is None or figure["value"] is None:
        return Verdict(key, met=False, sentence=f"{key} is {limit:g}, but there is no figure for it on these films")
    by_interval = judged_by == "interval" and "low" in figure
    measured = figure[("high" if upper else "low") if by_interval else "value"]
    met = measured <= limit if upper else measured >= limit
    end = f"the {'upper' if upper else 'lower'} end of the interval of " if by_interval else ""
    verb = "may be at most" if upper else "must be at least"
    shown = f"{measured:g}" if isinstance(measured, int) else f"{measured:.4g}"
    return Verdict(key, bool(met), f"{end}{measurement.subject} is {shown} and {verb} {limit:g} ({key})")


def _loss(difference: dict[str, Any]) -> dict[str, Any]:
    """Return how much smaller the second version's figure is, from the difference."""
    return {"value": 0 - difference["value"], "low": 0 - difference["high"], "high": 0 - difference["low"]}


def _mean(measure: str, subject: str) -> Callable[[dict[str, Any]], list[Measurement]]:
    return lambda figures: [Measurement(subject, figures["explanations"][measure]["mean"])]


def _areas(figures: dict[str, Any]) -> list[Measurement]:
    return [Measurement(f"the area of {name}", row["second"]) for name, row in figures["areas"].items()]


def _area_losses(figures: dict[str, Any]) -> list[Measurement]:
    return [
        Measurement(f"the loss of area of {name}", _loss(row["difference"])) for name, row in figures["areas"].items()
    ]


def _changed_novelty(figures: dict[str, Any]) -> list[Measurement]:
    if figures["novelty"] is None:
        return []
    return [Measurement("the share of films whose novelty flag changes", figures["novelty"]["changed"])]


# By key: what it limits.
_MEASUREMENTS: dict[str, Callable[[dict[str, Any]], list[Measurement]]] = {
    "min_films": lambda figures: [Measurement("the number of films", {"value": figures["data"]["films"]})],
    "max_changed_answers": lambda figures: [
        Measurement("the share of answers that change", figures["answers"]["changed"])
    ],
    "max_became_wrong": lambda figures: [
        Measurement("the share of answers that become wrong", figures["answers"]["became_wrong"])
    ],
    "min_accuracy": lambda figures: [
        Measurement("the accuracy of the second version", figures["answers"]["accuracy"]["second"])
    ],
    "max_accuracy_loss": lambda figures: [
        Measurement("the loss of accuracy", _loss(figures["answers"]["accuracy"]["difference"]))
    ],
    "min_area": _areas,
    "max_area_loss": _area_losses,
    "max_calibration_error": lambda figures: [
        Measurement("the calibration error of the second version", figures["calibration"]["second"])
    ],
    "max_calibration_loss": lambda figures: [
        Measurement("the rise of the calibration error", figures["calibration"]["difference"])
    ],
    "max_changed_novelty": _changed_novelty,
    "min_rank_correlation": _mean("rank_correlation", "the mean rank correlation of the heatmaps"),
    "min_hottest_overlap": _mean("hottest_overlap", "the mean overlap of the hottest cells"),
    "min_shared_heat": _mean("shared_heat", "the mean share of heat that stays"),
    "max_vanished_maps": lambda figures: [
        Measurement("the share of films whose heatmap becomes empty", figures["explanations"]["vanished"])
    ],
}
