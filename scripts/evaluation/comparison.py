"""A comparison of the CAM methods on one model: heat inside the lungs, faithfulness, agreement and time.

All methods explain the predicted class of the same films from the same features and gradients.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.runtimes.base import Runtime
from app.explain.cams import METHODS, normalise
from app.explain.faithfulness import Faithfulness, Figures, judge, plan
from app.explain.regions import covered_box
from app.imaging.geometry import Box
from scripts.datasets.films import Film, patient_key, read_pixels
from scripts.evaluation.robustness import heat_inside, lung_mask
from scripts.evaluation.statistics import mean_by_patient, rank_correlation

STEPS = 4
RANDOM_MAPS = 1  # for each film, because their scores average out over many films
FAITHFULNESS_FILMS = 40  # each costs 16 predictions per method
_BATCH = 16


@dataclass(frozen=True, slots=True)
class MethodResult:
    """The map `[h, w]` of one method for one film before the ReLU, and the measurements made on it.

    `inside` is the share of heat inside the lungs, or None without a mask or without heat. `heatmap` and `random` are
    the deletion and insertion figures of the map and of the random maps, or None if they were not measured or the map
    has no heat. `seconds` is the time that the method took.
    """

    raw: Float32Array
    inside: float | None
    heatmap: Figures | None
    random: Figures | None
    seconds: float


def compare_methods(runtime: Runtime, films: Sequence[Film]) -> dict[str, Any]:
    """Measure every CAM method on `films`.

    Heat inside the lungs is measured on all films with a mask, deletion and insertion on a sample of
    `FAITHFULNESS_FILMS` films. The means have 95 % intervals from a bootstrap over patients, after averaging the films
    of each patient. Where a method gives the same map as another, as several do if the head is linear, it is not
    measured again.

    Raises:
        DataError: some films can't be decoded.
    """
    sample, masked = sample_films(films), [film for film in films if film.mask is not None]
    measured = sample + [film for film in masked if film not in sample]
    pixels = read_pixels(measured, runtime.manifest.input)
    results = [
        _measure_film(runtime, film, image, faithfulness=number < len(sample))
        for number, (film, image) in enumerate(zip(tqdm(measured, desc="methods", unit="film"), pixels, strict=True))
    ]
    patients = [patient_key(film) for film in measured]
    return {
        "films": {"masked": len(masked), "hidden_and_revealed": len(sample)},
        "steps": STEPS,
        "random_maps": RANDOM_MAPS,
        "methods": {name: _method_figures([result[name] for result in results], patients) for name in METHODS},
        "agreement": {
            f"{one}, {other}": mean_by_patient(
                [rank_correlation(result[one].raw, result[other].raw) for result in results], patients
            )
            for one, other in itertools.combinations(METHODS, 2)
        },
    }


def sample_films(films: Sequence[Film]) -> list[Film]:
    """Return a random sample of at most `FAITHFULNESS_FILMS` films, the same in every run."""
    order = np.random.default_rng(0).permutation(len(films))
    return [films[i] for i in sorted(order[:FAITHFULNESS_FILMS].tolist())]


def _measure_film(runtime: Runtime, film: Film, pixels: UInt8Array, *, faithfulness: bool) -> dict[str, MethodResult]:
    """Measure each method on one film; the result is keyed by method."""
    evidence = runtime.evidence(pixels[None], np.zeros((1, 1, len(runtime.manifest.classes)), np.float32))
    predicted = int(evidence.probabilities[0].argmax())
    box = covered_box(runtime.manifest.feature_layer, None if evidence.box is None else evidence.box[0])
    results: dict[str, MethodResult] = {}
    for name, method in METHODS.items():
        start = time.perf_counter()
        raw = method(evidence.features[0], evidence.gradients[0, 0])
        seconds = time.perf_counter() - start
        same = [one for one in results.values() if np.abs(one.raw - raw).max() <= 1e-4 * np.abs(raw).max()]
        if same:
            results[name] = dataclasses.replace(same[0], raw=raw, seconds=seconds)
            continue
        heatmap = normalise(raw)
        measure = faithfulness and not heatmap.empty
        figures = _measure_faithfulness(runtime, pixels, heatmap.values, predicted, box) if measure else None
        results[name] = MethodResult(
            raw=raw,
            inside=None if heatmap.empty else _heat_inside_lungs(runtime, film, heatmap.values, box),
            heatmap=figures.heatmap if figures else None,
            random=figures.random if figures else None,
            seconds=seconds,
        )
    return results


def _measure_faithfulness(
    runtime: Runtime, pixels: UInt8Array, values: Float32Array, predicted: int, box: Box
) -> Faithfulness:
    perturbations = plan(pixels, values, steps=STEPS, random_maps=RANDOM_MAPS, box=box)
    images = list(perturbations.images())
    batches = [np.stack(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    scores = np.concatenate([runtime.predict(batch).probabilities[:, predicted] for batch in batches])
    return judge(perturbations, scores)


def _heat_inside_lungs(runtime: Runtime, film: Film, values: Float32Array, box: Box) -> float | None:
    """Return the share of the heat that lies inside the lungs, or None if the film has no mask."""
    if film.mask is None:
        return None
    return heat_inside(values, lung_mask(film, runtime.manifest.input), box)


def _method_figures(results: Sequence[MethodResult], patients: Sequence[str]) -> dict[str, Any]:
    """Summarise the results of one method over all films."""
    pairs = [None if one.heatmap is None or one.random is None else (one.heatmap, one.random) for one in results]
    return {
        "inside_lungs": mean_by_patient([one.inside for one in results], patients),
        "deletion_area": mean_by_patient([pair and pair[0].deletion_area for pair in pairs], patients),
        "insertion_area": mean_by_patient([pair and pair[0].insertion_area for pair in pairs], patients),
        "score": mean_by_patient([pair and pair[0].score for pair in pairs], patients),
        "random_score": mean_by_patient([pair and pair[1].score for pair in pairs], patients),
        "above_random": mean_by_patient([pair and pair[0].score - pair[1].score for pair in pairs], patients),
        "average_drop": mean_by_patient([pair and pair[0].average_drop for pair in pairs], patients),
        "milliseconds": float(np.median([one.seconds for one in results]) * 1000),
    }
