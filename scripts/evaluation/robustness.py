"""Robustness checks: what a classifier answers when an image lacks the evidence, or differs only in irrelevant ways.

Each check asks a model about films that it was not trained on, changed in one way.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import InputSpec
from app.artifact.runtimes.base import Runtime
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.explain.cams import gradcam, normalise
from app.explain.regions import covered_box
from app.imaging.geometry import Box, Fit, Region
from app.imaging.grid import overlaps
from app.imaging.picture import Picture
from scripts.datasets.films import Film, patient_key, read_lung_mask, read_pixels
from scripts.datasets.images import network_input, read_image
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.statistics import mean_of, proportion

RIM = 0.12  # the width of the border and the side of a corner, as a share of the image's side
# Each change costs a prediction per film, so the checks that make many changes use this many films of each model.
MAX_FILMS = 120
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Attention:
    """The shares of the positive heat and of the pixels that lie inside the lungs of `film`."""

    film: Film
    heat_inside: float
    lungs: float


def lung_mask(film: Film, spec: InputSpec) -> UInt8Array:
    """Return the lung mask of `film` in the network's pixels: `[H, W]`, 0 or 1."""
    return (read_lung_mask(film, spec) > 127).astype(np.uint8)


def heat_inside(heatmap: Float32Array, mask: UInt8Array, box: Box) -> float:
    """Return the share of the heat that lies inside a mask. The heat must not be all zeros.

    Args:
        heatmap: the heat, `[h, w]`.
        mask: the mask over the input, `[H, W]`, 0 or 1; nothing outside the input is inside it.
        box: the part of the input that the heatmap covers.
    """
    region = Region(0, 0, mask.shape[1], mask.shape[0]).part(box)
    down = overlaps(heatmap.shape[0], region.top, region.bottom, mask.shape[0])
    across = overlaps(heatmap.shape[1], region.left, region.right, mask.shape[1])
    shares = down @ mask @ across.T  # [h, w]
    return float((heatmap * shares).sum() / heatmap.sum())


def _gamma(exponent: float) -> Callable[[Picture], Picture]:
    table = [round(255 * (level / 255) ** exponent) for level in range(256)]
    return lambda picture: Picture(picture.image.point(table * len(picture.image.getbands())), picture.format)


def _recompressed(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    picture.image.save(buffer, "JPEG", quality=50)
    with Image.open(buffer) as image:
        image.load()
        return Picture(image, picture.format)


# Changes that would not alter a radiologist's diagnosis: a function, and a fit that replaces the model's own.
HARMLESS: dict[str, tuple[Callable[[Picture], Picture], Fit | None]] = {
    "squashed to a square": (lambda picture: picture, "squash"),
    "padded to a square": (lambda picture: picture, "pad"),
    "JPEG at quality 50": (_recompressed, None),
    "gamma 0.7": (_gamma(0.7), None),
    "gamma 1.4": (_gamma(1.4), None),
}


def changed_answers(runtime: Runtime, films: Sequence[Film]) -> dict[str, np.ndarray]:
    """Return, for each harmless change, whether it alters the prediction for each film: bool `[N]`."""
    spec = runtime.manifest.input
    pictures = [read_image(film.path) for film in films]
    original = predicted_classes(runtime, np.stack([network_input(picture, spec) for picture in pictures]))
    changes = {}
    for name, (change, fit) in tqdm(HARMLESS.items(), desc="harmless changes", unit="change"):
        pixels = np.stack([network_input(change(picture), spec, fit) for picture in pictures])
        changes[name] = predicted_classes(runtime, pixels) != original
    return changes


def predicted_classes(runtime: Runtime, pixels: UInt8Array) -> np.ndarray:
    """Return the index of the most probable class of each image, `[N]`."""
    starts = range(0, len(pixels), _BATCH)
    return np.concatenate([runtime.predict(pixels[s : s + _BATCH]).probabilities.argmax(axis=-1) for s in starts])


def without_lungs(runtime: Runtime, films: Sequence[Film]) -> np.ndarray:
    """Predict films with masks after painting their lungs over in the film's mean grey; returns class indices `[N]`."""
    spec = runtime.manifest.input
    painted = []
    for film in films:
        pixels = network_input(read_image(film.path), spec).copy()
        pixels[lung_mask(film, spec) == 1] = pixels.mean(axis=(0, 1)).astype(np.uint8)
        painted.append(pixels)
    return predicted_classes(runtime, np.stack(painted))


def only_rim(runtime: Runtime, pixels: UInt8Array, *, corners: bool) -> np.ndarray:
    """Predict images of which only the border, or only the `corners`, are visible; returns class indices `[N]`."""
    height, width = pixels.shape[1:3]
    rows = np.minimum(np.arange(height), np.arange(height)[::-1]) < RIM * height
    columns = np.minimum(np.arange(width), np.arange(width)[::-1]) < RIM * width
    shown = rows[:, None] & columns[None, :] if corners else rows[:, None] | columns[None, :]
    return predicted_classes(runtime, np.where(shown[None, :, :, None], pixels, np.uint8(0)))


def lung_attention(runtime: Runtime, films: Sequence[Film]) -> list[Attention]:
    """Measure the heat inside the lungs on films with masks, for the predicted class; omit films without heat."""
    spec, layer = runtime.manifest.input, runtime.manifest.feature_layer
    predicted = np.zeros((1, 1, len(runtime.manifest.classes)), np.float32)
    found = []
    for film in tqdm(films, desc="lung attention", unit="film"):
        evidence = runtime.evidence(network_input(read_image(film.path), spec)[None], predicted)
        heatmap = normalise(gradcam(evidence.features[0], evidence.gradients[0, 0]))
        box = covered_box(layer, None if evidence.box is None else evidence.box[0])
        mask = lung_mask(film, spec)
        if not heatmap.empty:
            found.append(Attention(film, heat_inside(heatmap.values, mask, box), float(mask.mean())))
    return found


def source_recall(runtime: Runtime, films: Sequence[Film], pixels: UInt8Array) -> dict[str, float]:
    """Measure how well a linear classifier predicts the *source* of a film from the model's pooled features.

    For each class with films of two sources, the result is the mean recall of the sources in a cross-validation by
    patient, where both sources have the same weight. Chance is a half. Classes with fewer than five films of a source
    are omitted.
    """
    starts = tqdm(range(0, len(pixels), _BATCH), desc="sources", unit="batch")
    pooled = np.concatenate([_pooled(runtime, pixels[s : s + _BATCH]) for s in starts])
    found = {}
    for label in sorted({film.label for film in films}):
        at = np.array([film.label == label for film in films])
        sources = np.array([film.source for film in films])[at]
        groups = np.array([patient_key(film) for film in films])[at]
        names, counts = np.unique(sources, return_counts=True)
        if len(names) != 2 or counts.min() < 5 or len(set(groups)) < 5:
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced"))
        named = cross_val_predict(probe, pooled[at], sources, groups=groups, cv=GroupKFold(5))
        found[label] = float(np.mean([(named[sources == name] == name).mean() for name in names]))
    return found


def _pooled(runtime: Runtime, pixels: UInt8Array) -> Float32Array:
    targets = np.zeros((len(pixels), 1, len(runtime.manifest.classes)), np.float32)
    return np.asarray(runtime.evidence(pixels, targets).features.mean(axis=(1, 2)))


def cascading_randomisation(runtime: TensorFlowRuntime, pixels: UInt8Array) -> list[tuple[int, float]]:
    """Measure how similar heatmaps stay to the original ones while the weights are randomised from the top down.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. The variables with at least two axes are
    randomised one after another, starting at the logits. The maps explain the class that was predicted originally.
    `runtime` can't be used afterwards.

    Returns:
        After each variable: the number of randomised variables, and the mean Spearman correlation of the maps with the
        original ones.
    """
    classes = len(runtime.manifest.classes)
    targets = np.eye(classes, dtype=np.float32)[predicted_classes(runtime, pixels)][:, None]
    original = _raw_maps(runtime, pixels, targets)
    rng = np.random.default_rng(0)
    found = []
    weights = [variable for variable in runtime.variables() if len(variable.shape) >= 2]
    for count, variable in enumerate(tqdm(weights[::-1], desc="randomising", unit="layer"), start=1):
        values = variable.numpy()
        variable.assign(rng.normal(values.mean(), values.std(), values.shape).astype(values.dtype))
        maps = _raw_maps(runtime, pixels, targets)
        found.append((count, float(np.mean([_rank_correlation(a, b) for a, b in zip(original, maps, strict=True)]))))
    return found


def _raw_maps(runtime: Runtime, pixels: UInt8Array, targets: Float32Array) -> list[Float32Array]:
    evidence = runtime.evidence(pixels, targets)
    return [
        gradcam(features, gradients[0])
        for features, gradients in zip(evidence.features, evidence.gradients, strict=True)
    ]


def _rank_correlation(one: Float32Array, other: Float32Array) -> float:
    """Return Spearman's rank correlation of two maps; 0 if one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def robustness_figures(models: Sequence[tuple[Path, Predictions]]) -> dict[str, Any]:
    """Run all checks on each model, with the films of its predictions, and pool the results."""
    changes: dict[str, list[np.ndarray]] = {name: [] for name in HARMLESS}
    rims: dict[str, list[np.ndarray]] = {"border": [], "corners": []}
    whole, painted, attention, sources = [], [], [], []
    for entry, predictions in models:
        runtime = TensorFlowRuntime(entry)
        chosen = np.random.default_rng(0).permutation(len(predictions.films))[:MAX_FILMS]
        films, labels = [predictions.films[i] for i in chosen], predictions.labels[chosen]
        for name, changed in changed_answers(runtime, films).items():
            changes[name].append(changed)
        pixels = read_pixels(films, runtime.manifest.input)
        for name, corners in (("border", False), ("corners", True)):
            rims[name].append(only_rim(runtime, pixels, corners=corners) == labels)
        order = np.random.default_rng(0).permutation(len(predictions.films)).tolist()
        masked = sorted([i for i in order if predictions.films[i].mask is not None][:MAX_FILMS])
        if masked:
            masked_films = [predictions.films[i] for i in masked]
            whole.append(predictions.correct[masked])
            painted.append(without_lungs(runtime, masked_films) == predictions.labels[masked])
            attention += lung_attention(runtime, masked_films)
        sources.append(source_recall(runtime, films, pixels))
    return {
        "changed_answers": {name: _pooled_proportion(found) for name, found in changes.items()},
        "only": {name: _pooled_proportion(found) for name, found in rims.items()},
        "masked_films": {"accuracy": _pooled_proportion(whole), "without_lungs": _pooled_proportion(painted)},
        "lung_attention": {
            label: {
                "heat_inside": mean_of([one.heat_inside for one in attention if one.film.label == label]),
                "lungs": mean_of([one.lungs for one in attention if one.film.label == label]),
            }
            for label in sorted({one.film.label for one in attention})
        },
        "source_recall": {
            label: float(np.mean([found[label] for found in sources if label in found]))
            for label in sorted({label for found in sources for label in found})
        },
        "randomised": _randomised(*models[0]),
    }


def _pooled_proportion(outcomes: Sequence[np.ndarray]) -> dict[str, Any]:
    values = np.concatenate(outcomes) if outcomes else np.zeros(0, bool)
    return proportion(int(values.sum()), len(values))


def _randomised(entry: Path, predictions: Predictions) -> list[tuple[int, float]]:
    runtime = TensorFlowRuntime(entry)
    return cascading_randomisation(runtime, read_pixels(list(predictions.films[:8]), runtime.manifest.input))
