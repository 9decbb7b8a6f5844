"""Which CAM method is best on a model, measured: heat inside the lungs, hiding and revealing, agreement, time.

The methods are asked about the predicted class of the same films, from the same evidence.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.runtimes.base import Runtime
from app.explain.cams import METHODS, normalise
from app.explain.faithfulness import Faithfulness, Figures, judge, plan
from scripts.datasets.films import Film, read_pixels
from scripts.evaluation.robustness import lung_mask
from scripts.evaluation.statistics import mean_of

STEPS = 4
RANDOM_MAPS = 1  # on each film: over many films their scores average out
FILMS = 40  # that are hidden and revealed, at 16 predictions for a map
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one film and one method: its map `[h, w]` before the ReLU, and what was measured on it.

    `inside` is the share of heat inside the lungs, None without a mask or without heat; `heatmap` and `random` are the
    figures of hiding and revealing, None without heat or where that was not done; `seconds` is what the method took.
    """

    raw: Float32Array
    inside: float | None
    heatmap: Figures | None
    random: Figures | None
    seconds: float


def compare(runtime: Runtime, films: Sequence[Film]) -> dict[str, Any]:
    """Every method's figures on `films`: heat inside the lungs on those with a mask, hiding and revealing on `FILMS`.

    Means have 95 % intervals by a bootstrap over patients: films of one patient are averaged before. A method whose
    maps are those of another, as several are where the head is linear, is not measured again.

    Raises:
        DataError: films can't be decoded.
    """
    chosen, masked = drawn(films), [film for film in films if film.mask is not None]
    asked = chosen + [film for film in masked if film not in chosen]
    pixels = read_pixels(asked, runtime.manifest.input)
    outcomes = [
        _outcomes(runtime, film, image, hide=number < len(chosen))
        for number, (film, image) in enumerate(zip(tqdm(asked, desc="methods", unit="film"), pixels, strict=True))
    ]
    patients = [film.patient or str(film.path) for film in asked]
    return {
        "films": {"masked": len(masked), "hidden_and_revealed": len(chosen)},
        "steps": STEPS,
        "random_maps": RANDOM_MAPS,
        "methods": {name: _figures([outcome[name] for outcome in outcomes], patients) for name in METHODS},
        "agreement": {
            f"{one}, {other}": by_patient(
                [_correlation(outcome[one].raw, outcome[other].raw) for outcome in outcomes], patients
            )
            for one, other in itertools.combinations(METHODS, 2)
        },
    }


def drawn(films: Sequence[Film]) -> list[Film]:
    """At most `FILMS` films, by chance, and the same ones every time."""
    order = np.random.default_rng(0).permutation(len(films))
    return [films[i] for i in sorted(order[:FILMS].tolist())]


def _outcomes(runtime: Runtime, film: Film, pixels: UInt8Array, *, hide: bool) -> dict[str, Outcome]:
    """By method."""
    evidence = runtime.evidence(pixels[None], np.zeros((1, 1, len(runtime.manifest.classes)), np.float32))
    predicted = int(evidence.probabilities[0].argmax())
    found: dict[str, Outcome] = {}
    for name, method in METHODS.items():
        start = time.perf_counter()
        raw = method(evidence.features[0], evidence.gradients[0, 0])
        seconds = time.perf_counter() - start
        twins = [one for one in found.values() if np.abs(one.raw - raw).max() <= 1e-4 * np.abs(raw).max()]
        if twins:
            found[name] = dataclasses.replace(twins[0], raw=raw, seconds=seconds)
            continue
        heatmap = normalise(raw)
        judged = _judged(runtime, pixels, heatmap.values, predicted) if hide and not heatmap.empty else None
        found[name] = Outcome(
            raw=raw,
            inside=None if heatmap.empty else _inside(runtime, film, heatmap.values),
            heatmap=judged.heatmap if judged else None,
            random=judged.random if judged else None,
            seconds=seconds,
        )
    return found


def _judged(runtime: Runtime, pixels: UInt8Array, values: Float32Array, predicted: int) -> Faithfulness:
    planned = plan(pixels, values, steps=STEPS, random_maps=RANDOM_MAPS)
    images = list(planned.images())
    batches = [np.stack(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return judge(planned, np.concatenate([runtime.predict(batch).probabilities[:, predicted] for batch in batches]))


def _inside(runtime: Runtime, film: Film, values: Float32Array) -> float | None:
    """The share of the heat inside the lungs, or None where the film has no mask."""
    if film.mask is None:
        return None
    mask = Image.fromarray(lung_mask(film, runtime.manifest.input) * 255)
    height, width = values.shape
    share = np.asarray(mask.resize((width, height), Image.Resampling.BOX), np.float64) / 255
    return float((values * share).sum() / values.sum())


def _correlation(one: Float32Array, other: Float32Array) -> float | None:
    """Spearman's rank correlation of two maps, or None where one of them is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def by_patient(values: Sequence[float | None], patients: Sequence[str]) -> dict[str, Any]:
    """The mean over patients of each one's mean, with its interval; None is left out. `patients` counts them."""
    known: dict[str, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        if value is not None:
            known.setdefault(patient, []).append(value)
    figure = mean_of([float(np.mean(several)) for several in known.values()])
    return {"patients" if key == "films" else key: value for key, value in figure.items()}


def _figures(outcomes: Sequence[Outcome], patients: Sequence[str]) -> dict[str, Any]:
    judged = [(one.heatmap, one.random) for one in outcomes]
    pairs = [None if mine is None or random is None else (mine, random) for mine, random in judged]
    return {
        "inside_lungs": by_patient([one.inside for one in outcomes], patients),
        "deletion_area": by_patient([pair and pair[0].deletion_area for pair in pairs], patients),
        "insertion_area": by_patient([pair and pair[0].insertion_area for pair in pairs], patients),
        "score": by_patient([pair and pair[0].score for pair in pairs], patients),
        "random_score": by_patient([pair and pair[1].score for pair in pairs], patients),
        "above_random": by_patient([pair and pair[0].score - pair[1].score for pair in pairs], patients),
        "average_drop": by_patient([pair and pair[0].average_drop for pair in pairs], patients),
        "milliseconds": float(np.median([one.seconds for one in outcomes]) * 1000),
    }
