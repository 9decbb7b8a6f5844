"""What the frozen part of a network makes of films and of their variants, computed once and kept in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import InputSpec
from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify
from scripts.datasets.films import MAX_PIXELS, Film, read_pixels
from scripts.training.augmentation import augment

# Films are read once at this many pixels a side, so that a variant may zoom in without inventing pixels.
SOURCE_SIDE = 320


@dataclass(frozen=True, slots=True)
class Variants:
    """How films are varied: `count` augmented variants of each, of `strength` 0..1, decided by `seed`."""

    count: int
    strength: float
    seed: int

    def names(self) -> list[str]:
        """One per variant, the film itself first, which is the same whatever the others are."""
        return ["0", *(f"{number}-{self.strength}-{self.seed}" for number in range(1, self.count + 1))]


@dataclass(frozen=True, slots=True)
class Cache:
    """The frozen part's output for N films, and the lung masks of the M films that have one.

    `cuts[v]` is float16 `[N, a, b, K]` of variant v, the film itself being variant 0; `masks[v]` float32
    `[M, a, b, 1]`, 0..1, for the films of indices `masked`.
    """

    cuts: list[np.ndarray]
    masks: list[Float32Array]
    masked: list[int]


def cache_features(
    frozen: keras.Model, films: Sequence[Film], spec: InputSpec, variants: Variants, scratch: Path
) -> Cache:
    """Run the frozen part over every film and its variants; each variant is a file in `scratch`, complete or absent.

    Raises:
        DataError: films can't be read.
    """
    masked = [i for i, film in enumerate(films) if film.mask is not None]
    paths = [[scratch / f"{kind}-{name}.npy" for kind in ("cuts", "masks")] for name in variants.names()]
    if not all(path.exists() for pair in paths for path in pair):
        _compute(frozen, films, spec, variants, paths)
    return Cache([np.load(cuts, mmap_mode="r") for cuts, _ in paths], [np.load(masks) for _, masks in paths], masked)


def _compute(
    frozen: keras.Model, films: Sequence[Film], spec: InputSpec, variants: Variants, paths: list[list[Path]]
) -> None:
    clean = read_pixels(films, spec)
    sources = read_pixels(films, InputSpec(height=SOURCE_SIDE, width=SOURCE_SIDE, channels=1, fit="crop"))[..., 0]
    whole = {i: _read_mask(film, SOURCE_SIDE) for i, film in enumerate(films) if film.mask is not None}
    grid = frozen.output_shape[1:3]

    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        return tf.cast(frozen(tf.cast(images, tf.float32), training=False), tf.float16)

    for variant, (cuts_path, masks_path) in enumerate(paths):

        def make(i: int, variant: int = variant) -> tuple[UInt8Array, UInt8Array | None]:
            if variant == 0:
                return clean[i], _resized(whole[i], spec.height) if i in whole else None
            rng = np.random.default_rng([variants.seed, variant, i])
            grey, mask = augment(sources[i], rng, spec.height, variants.strength, whole.get(i))
            return np.repeat(grey[..., None], spec.channels, axis=-1), mask

        if cuts_path.exists() and masks_path.exists():
            continue
        batches, shrunk = [], []
        for at in in_batches(len(films), 16, f"features {variant + 1}/{len(paths)}"):
            made = [make(int(i)) for i in at]
            batches.append(run(np.stack([pixels for pixels, _ in made])).numpy())
            shrunk += [_shrunk(mask, grid) for _, mask in made if mask is not None]
        _save(cuts_path, np.concatenate(batches))
        _save(masks_path, np.array(shrunk, np.float32).reshape(-1, *grid, 1))


def _read_mask(film: Film, side: int) -> UInt8Array:
    assert film.mask is not None
    picture = decode(identify(film.mask.read_bytes()), max_pixels=MAX_PIXELS)
    return to_input(picture, width=side, height=side, channels=1, fit="crop")[..., 0]


def _resized(mask: UInt8Array, side: int) -> UInt8Array:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.BILINEAR))


def _shrunk(mask: UInt8Array, grid: tuple[int, int]) -> Float32Array:
    """The share of lung in each cell of the grid."""
    return np.asarray(Image.fromarray(mask).resize(grid[::-1], Image.Resampling.BOX), np.float32) / np.float32(255)


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.rename(path)


def in_batches(count: int, size: int, label: str) -> Iterator[np.ndarray]:
    """Indices 0..count in batches, with a progress bar."""
    for start in tqdm(range(0, count, size), desc=label, unit="batch"):
        yield np.arange(start, min(start + size, count))
