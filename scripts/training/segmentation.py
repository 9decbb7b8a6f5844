"""Fit the lung segmenter to films with masks, and to pictures without lungs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import InputSpec
from scripts.datasets.films import Film, read_lung_mask, read_pixels
from scripts.networks.segmenter import lung_segmenter
from scripts.training.augmentation import augment

# Augmentation starts from films of this many pixels a side, so that a variant can zoom in without upsampling.
SOURCE_SIDE = 384
_BATCH = 32
# The share of pictures without lungs among the training pictures.
_WITHOUT_LUNGS = 0.15


@dataclass(frozen=True, slots=True)
class SegmentationRecipe:
    """How a segmenter is fitted: the variants of each film, the epochs over all of them, and the seed of both."""

    variants: int = 4
    epochs: int = 3
    learning_rate: float = 3e-3
    seed: int = 0


def fit_segmenter(films: Sequence[Film], recipe: SegmentationRecipe) -> keras.Model:
    """Fit a segmenter to the lung masks of `films`, which must all have one.

    Each film is seen in augmented variants only. A share of the pictures have no lungs: films cut in tiles and
    shuffled, noise with the spectrum of a film, a magnified corner, and drawn shapes. From them the
    segmenter learns to find nothing.

    Raises:
        DataError: some films can't be decoded.
    """
    pixels, masks = read_masked(films)
    images, targets = training_pictures(pixels, masks, recipe)
    segmenter = lung_segmenter(recipe.seed, images.shape[1])
    keras.utils.set_random_seed(recipe.seed)
    steps = recipe.epochs * -(-len(images) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    segmenter.compile(keras.optimizers.Adam(rate), loss=overlap_loss, jit_compile=False)
    segmenter.fit(images, targets, batch_size=_BATCH, epochs=recipe.epochs, verbose=1)
    return segmenter


def read_masked(films: Sequence[Film]) -> tuple[UInt8Array, UInt8Array]:
    """Read films and their masks, padded to squares: two arrays uint8 `[N, SOURCE_SIDE, SOURCE_SIDE]`."""
    spec = InputSpec(height=SOURCE_SIDE, width=SOURCE_SIDE, channels=1, fit="pad")
    return read_pixels(films, spec)[..., 0], np.stack([read_lung_mask(film, spec) for film in films])


def overlap_loss(targets: Any, lungs: Any) -> Any:
    """Cross-entropy plus one minus the soft Dice coefficient (Milletari et al., 3DV 2016), `[B]`."""
    entropy = tf.reduce_mean(keras.losses.binary_crossentropy(targets, lungs), axis=[1, 2])
    both = tf.reduce_sum(targets * lungs, axis=[1, 2, 3])
    total = tf.reduce_sum(targets, axis=[1, 2, 3]) + tf.reduce_sum(lungs, axis=[1, 2, 3])
    return entropy + 1.0 - (2.0 * both + 1.0) / (total + 1.0)


def dice(mask: np.ndarray, found: np.ndarray) -> float:
    """Return the Dice coefficient of two masks of booleans; that of two empty masks is 1."""
    total = int(mask.sum() + found.sum())
    return 1.0 if total == 0 else 2 * int((mask & found).sum()) / total


def training_pictures(
    pixels: UInt8Array, masks: UInt8Array, recipe: SegmentationRecipe, side: int = 128
) -> tuple[Float32Array, Float32Array]:
    """Return `recipe.variants` pictures of each film, and the mask of each: two arrays `[N, side, side, 1]`.

    The pictures are 0..255, the masks 0 or 1. A share of the pictures have no lungs.
    """

    def make(number: int) -> tuple[UInt8Array, UInt8Array]:
        variant, i = divmod(number, len(pixels))
        rng = np.random.default_rng([recipe.seed, variant, i])
        grey, mask = augment(pixels[i], rng, side, 1.0, masks[i])
        assert mask is not None
        if rng.random() < _WITHOUT_LUNGS:
            return _without_lungs(grey, rng), np.zeros_like(mask)
        return grey, mask

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, range(recipe.variants * len(pixels))))
    images = np.stack([grey for grey, _ in made])[..., None].astype(np.float32)
    return images, (np.stack([mask for _, mask in made])[..., None] > 127).astype(np.float32)


def _without_lungs(film: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Make a picture without lungs that has something of a film: its tiles, its spectrum, or its size alone."""
    kind = rng.integers(4)
    if kind == 0:
        return _shuffled_tiles(film, int(rng.choice([4, 8])), rng)
    if kind == 1:
        return _noise_with_spectrum(film, rng)
    if kind == 2:
        return _magnified_corner(film, rng)
    return _shapes(len(film), rng)


def _shuffled_tiles(film: UInt8Array, count: int, rng: np.random.Generator) -> UInt8Array:
    side = len(film) // count
    tiles = (
        film[: count * side, : count * side].reshape(count, side, count, side).swapaxes(1, 2).reshape(-1, side, side)
    )
    shuffled = rng.permutation(tiles).reshape(count, count, side, side).swapaxes(1, 2)
    return np.resize(shuffled.reshape(count * side, count * side), film.shape)


def _noise_with_spectrum(film: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    spectrum = np.abs(np.fft.rfft2(film))
    phases = np.angle(np.fft.rfft2(rng.normal(size=film.shape)))
    noise = np.fft.irfft2(spectrum * np.exp(1j * phases), film.shape)
    low, high = np.quantile(noise, [0.01, 0.99])
    return ((noise - low) / (high - low + 1e-6) * 255).clip(0, 255).astype(np.uint8)


def _magnified_corner(film: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Magnify a corner of an eighth of the side, in which no lung has its shape."""
    side = len(film) // 8
    top, left = (0 if rng.random() < 0.5 else len(film) - side for _ in range(2))
    corner = Image.fromarray(film[top : top + side, left : left + side])
    return np.asarray(corner.resize((len(film), len(film)), Image.Resampling.BICUBIC))


def _shapes(side: int, rng: np.random.Generator) -> UInt8Array:
    picture = Image.new("L", (side, side), int(rng.integers(256)))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 20)):
        (left, right), (top, bottom) = np.sort(rng.uniform(0, side, (2, 2)))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, right, bottom), fill=int(rng.integers(256)))
    noisy = np.asarray(picture) + rng.normal(0, rng.uniform(0, 25), (side, side))
    return noisy.clip(0, 255).astype(np.uint8)
