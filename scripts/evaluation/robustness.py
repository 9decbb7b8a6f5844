"""Questions that a sceptic would ask: what does a classifier answer when it can't know, or when it should not care?

Each control asks a model about films that it was not trained on, changed in one way.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from app.imaging.decoding import decode, to_input
from app.imaging.geometry import Fit
from app.imaging.headers import identify
from app.imaging.picture import Picture
from scripts.datasets.films import MAX_PIXELS, Film

RIM = 0.12  # share of the side that a border or a corner takes
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Attention:
    """Of one masked film: the share of positive heat inside the lungs, and the lungs' share of what the network saw."""

    film: Film
    heat_inside: float
    lungs: float


def picture_of(film: Film) -> Picture:
    """The film, decoded as the service does."""
    return decode(identify(film.path.read_bytes()), max_pixels=MAX_PIXELS)


def lung_mask(film: Film, spec: InputSpec) -> UInt8Array:
    """The lung mask of `film` in the network's pixels, `[H, W]`, 0 or 1."""
    assert film.mask is not None
    mask = decode(identify(film.mask.read_bytes()), max_pixels=MAX_PIXELS)
    seen = to_input(mask, width=spec.width, height=spec.height, channels=1, fit=spec.fit)
    return (seen[..., 0] > 127).astype(np.uint8)


def _gamma(exponent: float) -> Callable[[Picture], Picture]:
    table = [round(255 * (level / 255) ** exponent) for level in range(256)]
    return lambda picture: Picture(picture.image.point(table * len(picture.image.getbands())), picture.format)


def _recompressed(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    picture.image.save(buffer, "JPEG", quality=50)
    with Image.open(buffer) as image:
        image.load()
        return Picture(image, picture.format)


# What changes nothing of what a radiologist would say.
HARMLESS: dict[str, tuple[Callable[[Picture], Picture], Fit | None]] = {
    "squashed to a square": (lambda picture: picture, "squash"),
    "padded to a square": (lambda picture: picture, "pad"),
    "JPEG at quality 50": (_recompressed, None),
    "gamma 0.7": (_gamma(0.7), None),
    "gamma 1.4": (_gamma(1.4), None),
}


def changed_answers(runtime: Runtime, films: Sequence[Film]) -> dict[str, np.ndarray]:
    """For each harmless change and film, whether the answer is another than to the film as it is: bool `[N]`."""
    spec = runtime.manifest.input
    pictures = [picture_of(film) for film in films]
    plain = answers(runtime, np.stack([_seen(picture, spec, spec.fit) for picture in pictures]))
    changes = {}
    for name, (change, fit) in tqdm(HARMLESS.items(), desc="harmless changes", unit="change"):
        pixels = np.stack([_seen(change(picture), spec, fit or spec.fit) for picture in pictures])
        changes[name] = answers(runtime, pixels) != plain
    return changes


def _seen(picture: Picture, spec: InputSpec, fit: Fit) -> UInt8Array:
    return to_input(picture, width=spec.width, height=spec.height, channels=spec.channels, fit=fit, resize=spec.resize)


def answers(runtime: Runtime, pixels: UInt8Array) -> np.ndarray:
    """The index of the most probable class for each image, `[N]`."""
    starts = range(0, len(pixels), _BATCH)
    return np.concatenate([runtime.predict(pixels[s : s + _BATCH]).probabilities.argmax(axis=-1) for s in starts])


def without_lungs(runtime: Runtime, films: Sequence[Film]) -> np.ndarray:
    """The answers to masked `films` with their lungs painted over in the film's mean grey, `[N]`."""
    spec = runtime.manifest.input
    painted = []
    for film in films:
        pixels = _seen(picture_of(film), spec, spec.fit).copy()
        pixels[lung_mask(film, spec) == 1] = pixels.mean(axis=(0, 1)).astype(np.uint8)
        painted.append(pixels)
    return answers(runtime, np.stack(painted))


def only_rim(runtime: Runtime, pixels: UInt8Array, *, corners: bool) -> np.ndarray:
    """The answers to images of which only the border, or only the corners, can be seen, `[N]`."""
    height, width = pixels.shape[1:3]
    rows = np.minimum(np.arange(height), np.arange(height)[::-1]) < RIM * height
    columns = np.minimum(np.arange(width), np.arange(width)[::-1]) < RIM * width
    shown = rows[:, None] & columns[None, :] if corners else rows[:, None] | columns[None, :]
    return answers(runtime, np.where(shown[None, :, :, None], pixels, np.uint8(0)))


def lung_attention(runtime: Runtime, films: Sequence[Film]) -> list[Attention]:
    """Where the heat for the predicted class lies, on films with lung masks; films without any heat are left out."""
    spec, layer = runtime.manifest.input, runtime.manifest.feature_layer
    found = []
    for film in tqdm(films, desc="lung attention", unit="film"):
        evidence = runtime.evidence(_seen(picture_of(film), spec, spec.fit)[None], _predicted(runtime))
        heatmap = normalise(gradcam(evidence.features[0], evidence.gradients[0, 0]))
        mask = lung_mask(film, spec)
        grid = Image.fromarray(mask * 255).resize((layer.width, layer.height), Image.Resampling.BOX)
        share = np.asarray(grid, np.float64) / 255
        if not heatmap.empty:
            inside = float((heatmap.values * share).sum() / heatmap.values.sum())
            found.append(Attention(film, inside, float(mask.mean())))
    return found


def _predicted(runtime: Runtime) -> Float32Array:
    return np.zeros((1, 1, len(runtime.manifest.classes)), np.float32)


def source_recall(runtime: Runtime, films: Sequence[Film], pixels: UInt8Array) -> dict[str, float]:
    """How well a linear classifier names the *source* of films of one class from the model's pooled features.

    For each class that has films of two sources: the mean recall of the sources in cross-validation by patient, every
    source weighing the same. Guessing gives a half; classes with fewer than five films of a source are left out.
    """
    starts = tqdm(range(0, len(pixels), _BATCH), desc="sources", unit="batch")
    pooled = np.concatenate([_pooled(runtime, pixels[s : s + _BATCH]) for s in starts])
    found = {}
    for label in sorted({film.label for film in films}):
        at = np.array([film.label == label for film in films])
        sources = np.array([film.source for film in films])[at]
        groups = np.array([film.patient or str(film.path) for film in films])[at]
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
    """How alike heatmaps stay when the network's weights are randomised from the top down.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. After each further variable of at least two axes,
    counted from the logits: how many are random by then, and the mean Spearman correlation of the maps for the class
    that was first predicted with the original maps. `runtime` is of no use afterwards.
    """
    classes = len(runtime.manifest.classes)
    targets = np.eye(classes, dtype=np.float32)[answers(runtime, pixels)][:, None]
    original = _raw_maps(runtime, pixels, targets)
    rng = np.random.default_rng(0)
    found = []
    weights = [variable for variable in runtime.variables() if len(variable.shape) >= 2]
    for count, variable in enumerate(tqdm(weights[::-1], desc="randomising", unit="layer"), start=1):
        values = variable.numpy()
        variable.assign(rng.normal(values.mean(), values.std(), values.shape).astype(values.dtype))
        maps = _raw_maps(runtime, pixels, targets)
        found.append((count, float(np.mean([_alike(a, b) for a, b in zip(original, maps, strict=True)]))))
    return found


def _raw_maps(runtime: Runtime, pixels: UInt8Array, targets: Float32Array) -> list[Float32Array]:
    evidence = runtime.evidence(pixels, targets)
    return [
        gradcam(features, gradients[0])
        for features, gradients in zip(evidence.features, evidence.gradients, strict=True)
    ]


def _alike(one: Float32Array, other: Float32Array) -> float:
    """Spearman's rank correlation of two maps; 0 where one of them is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
