"""The features that the frozen part of a network computes for films and their variants, cached in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import ANYTHING, Expectation, InputSpec
from app.imaging.geometry import Box, Fit
from scripts.datasets.films import Film, read_lung_mask, read_pixels
from scripts.networks.backbones import Network
from scripts.training.augmentation import augment

# Augmentation starts from films of this many pixels a side, the short side of those that the shipped models saw.
SOURCE_SIDE = 320


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of each film: `count` augmented ones of `strength` 0..1, which `seed` decides."""

    count: int
    strength: float
    seed: int

    def names(self) -> list[str]:
        """Return a file name for each variant. The first is the film itself, whose name is always the same."""
        return ["0", *(f"{number}-{self.strength}-{self.seed}" for number in range(1, self.count + 1))]


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """The features of N films at the cut, where the frozen part ends, and the lung masks of the M films with a mask.

    Variant 0 is the film itself. `cuts[v]` are the features of variant v, float16 `[N, a, b, K]`. `masks[v]` are the
    masks, float32 `[M, a, b, 1]`, 0..1, of the films with the indices `masked`.
    """

    cuts: list[np.ndarray]
    masks: list[Float32Array]
    masked: list[int]


def input_spec(network: Network, expects: Expectation = ANYTHING) -> InputSpec:
    """Return the input of `network`: the whole image, padded, if it finds the lungs itself, and else a centred crop."""
    height, width, channels = network.input_shape
    fit: Fit = "crop" if network.view is None else "pad"
    return InputSpec(height=height, width=width, channels=1 if channels == 1 else 3, fit=fit, expects=expects)


def cache_features(network: Network, films: Sequence[Film], variants: Variants, scratch: Path) -> FeatureCache:
    """Compute the features of every film and its variants, or read them from `scratch` if they are there.

    Features and masks are those of what the frozen part of `network` sees: the crop, if the network makes one. A file
    in `scratch` is either complete or absent.

    Raises:
        DataError: some films can't be read.
    """
    masked = [i for i, film in enumerate(films) if film.mask is not None]
    paths = [[scratch / f"{kind}-{name}.npy" for kind in ("cuts", "masks")] for name in variants.names()]
    if not all(path.exists() for pair in paths for path in pair):
        _compute(network, films, variants, paths)
    return FeatureCache(
        [np.load(cuts, mmap_mode="r") for cuts, _ in paths], [np.load(masks) for _, masks in paths], masked
    )


def _compute(network: Network, films: Sequence[Film], variants: Variants, paths: list[list[Path]]) -> None:
    spec = input_spec(network)
    clean = read_pixels(films, spec.model_copy(update={"channels": 1}))[..., 0]
    source_spec = InputSpec(height=SOURCE_SIDE, width=SOURCE_SIDE, channels=1, fit=spec.fit)
    sources = read_pixels(films, source_spec)[..., 0] if variants.count else clean
    source_masks = {i: read_lung_mask(film, source_spec) for i, film in enumerate(films) if film.mask is not None}
    grid = network.frozen.output_shape[1:3]

    @tf.function(reduce_retracing=True)
    def run(grey: Any) -> tuple[Any, Any]:
        images = tf.repeat(tf.cast(grey, tf.float32)[..., None], spec.channels, axis=-1)
        seen, boxes = images, tf.tile([[0.0, 0.0, 1.0, 1.0]], [tf.shape(grey)[0], 1])
        if network.view is not None:
            seen, boxes, _ = network.view(images, training=False)
        return tf.cast(network.frozen(seen, training=False), tf.float16), boxes

    def make(variant: int, i: int) -> tuple[UInt8Array, UInt8Array | None]:
        if variant == 0:
            return clean[i], _resized(source_masks[i], spec.height) if i in source_masks else None
        rng = np.random.default_rng([variants.seed, variant, i])
        return augment(sources[i], rng, spec.height, variants.strength, source_masks.get(i))

    for variant, (cuts_path, masks_path) in enumerate(paths):
        if cuts_path.exists() and masks_path.exists():
            continue
        batches, shrunk = [], []
        for at in batch_indices(len(films), 16, f"features {variant + 1}/{len(paths)}"):
            made = [make(variant, int(i)) for i in at]
            cuts, boxes = run(np.stack([pixels for pixels, _ in made]))
            batches.append(cuts.numpy())
            shrunk += [
                _shrunk(mask, grid, box)
                for (_, mask), box in zip(made, boxes.numpy().tolist(), strict=True)
                if mask is not None
            ]
        _save(cuts_path, np.concatenate(batches))
        _save(masks_path, np.array(shrunk, np.float32).reshape(-1, *grid, 1))


def _resized(mask: UInt8Array, side: int) -> UInt8Array:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BILINEAR))


def _shrunk(mask: UInt8Array, grid: tuple[int, int], box: Box) -> Float32Array:
    """Return the share of lung in each cell of the grid over the part of the mask inside `box`, 0..1."""
    height, width = mask.shape
    edges = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    shares = Image.fromarray(mask).resize(grid[::-1], Image.Resampling.BOX, edges)
    return np.asarray(shares, np.float32) / np.float32(255)


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.rename(path)


def batch_indices(count: int, size: int, label: str) -> Iterator[np.ndarray]:
    """Yield the indices from 0 to `count - 1` in batches of `size`, with a progress bar."""
    for start in tqdm(range(0, count, size), desc=label, unit="batch"):
        yield np.arange(start, min(start + size, count))
