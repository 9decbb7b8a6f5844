"""Augmentation: variants of a training film that keep its diagnosis and imitate other hospitals and equipment."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageFilter

from app.arrays import Float32Array, UInt8Array

# Increase this number when the variants change, so that cached features of earlier variants are not reused.
REVISION = 3


def augment(
    film: UInt8Array, rng: np.random.Generator, size: int, strength: float = 1.0, mask: UInt8Array | None = None
) -> tuple[UInt8Array, UInt8Array | None]:
    """Return a random variant of a square film, and its lung mask transformed alike.

    The position varies by a scale of 0.85-1.25, an aspect ratio of ±10 %, a rotation of ±8°, a shift of ±6 %, and a
    reflection in one case of two; the exposure by histogram equalisation, gamma 0.55-1.8, contrast 0.7-1.4 and
    brightness ±12 %. Markers are blank borders and corners, and a patch of letters. Equipment and archive add blur or
    sharpening, resampling, noise and JPEG compression.

    Args:
        film: uint8 `[S, S]`.
        rng: decides the variant.
        size: the side of the variant in pixels.
        strength: 0..1. The ranges above apply at 1; at 0, only the reflection and JPEG compression remain.
        mask: the lung mask, uint8 `[S, S]`, or None.

    Returns:
        The variant, uint8 `[size, size]`, and its mask of the same shape, or None.
    """
    coefficients = _random_affine(film.shape[0], size, strength, rng)
    moved = _transformed(film, coefficients, size, int(rng.choice([0, 0, 0, film.mean()])))
    values = _with_markers(_with_exposure(moved, strength, rng), strength, rng)
    grey = _with_archive_artefacts((values * 255).astype(np.uint8), strength, rng)
    return grey, None if mask is None else _transformed(mask, coefficients, size, 0)


def _random_affine(side: int, size: int, strength: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Return the coefficients of Pillow's affine transform, which map a pixel of the variant to a point of the film."""
    zoom, aspect = math.exp(strength * rng.uniform(-0.22, 0.16)), math.exp(strength * rng.uniform(-0.1, 0.1))
    angle = math.radians(strength * rng.uniform(-8, 8))
    shift_x, shift_y = rng.uniform(-0.06, 0.06, 2) * side * strength
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    across, down = zoom * aspect * side / size, zoom / aspect * side / size
    a, b = mirror * across * math.cos(angle), -down * math.sin(angle)
    d, e = mirror * across * math.sin(angle), down * math.cos(angle)
    half = size / 2
    return (a, b, side / 2 + shift_x - (a + b) * half, d, e, side / 2 + shift_y - (d + e) * half)


def _transformed(film: UInt8Array, coefficients: tuple[float, ...], size: int, fill: int) -> UInt8Array:
    image = Image.fromarray(film)
    reduction = film.shape[0] / size
    if reduction > 1.2:  # the transform samples single pixels, so blur prevents aliasing
        image = image.filter(ImageFilter.GaussianBlur(0.3 * reduction))
    affine = Image.Transform.AFFINE
    return np.asarray(image.transform((size, size), affine, coefficients, Image.Resampling.BILINEAR, fillcolor=fill))


def _with_exposure(film: UInt8Array, strength: float, rng: np.random.Generator) -> Float32Array:
    values = film.astype(np.float32) / 255
    if rng.random() < 0.25 * strength:
        share = 0.5 if rng.random() < 0.5 else 1.0
        values = share * _equalised(film) + (1 - share) * values
    if rng.random() < 0.8:
        values = values ** math.exp(strength * rng.uniform(-0.6, 0.6))
    if rng.random() < 0.6:
        values = (
            (values - 0.5) * math.exp(strength * rng.uniform(-0.35, 0.35)) + 0.5 + strength * rng.uniform(-0.12, 0.12)
        )
    return np.clip(values, 0, 1, dtype=np.float32)


def _equalised(film: UInt8Array) -> Float32Array:
    """Return the film after global histogram equalisation, 0..1."""
    counts = np.bincount(film.ravel(), minlength=256)
    return ((counts.cumsum() - counts / 2) / film.size).astype(np.float32)[film]


def _with_markers(values: Float32Array, strength: float, rng: np.random.Generator) -> Float32Array:
    """Add borders and corners of a uniform grey, and a patch of letters, where hospitals place their markers."""
    marked = values.copy()
    size = len(marked)
    if rng.random() < 0.3 * strength:
        level = rng.choice([0, 0, 1, rng.random()])
        top, bottom, left, right = rng.integers(0, size // 9, 4)
        for edge in (np.s_[:top], np.s_[size - bottom :], np.s_[:, :left], np.s_[:, size - right :]):
            marked[edge] = level
    for down in (np.s_[: size // 5], np.s_[size - size // 5 :]):
        for across in (np.s_[: size // 5], np.s_[size - size // 5 :]):
            if rng.random() < 0.15 * strength:
                height, width = rng.integers(size // 12, size // 5, 2)
                corner = marked[down, across]
                rows = np.s_[:height] if down.start is None else np.s_[len(corner) - height :]
                columns = np.s_[:width] if across.start is None else np.s_[len(corner) - width :]
                corner[rows, columns] = rng.choice(np.array([0, rng.random(), np.median(values)]))
    if rng.random() < 0.15 * strength:
        height, width = rng.integers(size // 56, size // 16), rng.integers(size // 37, size // 8)
        top, left = rng.integers(0, size // 5), rng.integers(0, size - width)
        letters = rng.random((height, width)) < 0.5
        marked[top : top + height, left : left + width] = letters * rng.uniform(0.7, 1)
    return marked


def _with_archive_artefacts(grey: UInt8Array, strength: float, rng: np.random.Generator) -> UInt8Array:
    image = Image.fromarray(grey)
    if rng.random() < 0.4 * strength:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.6)))
    elif rng.random() < 0.2 * strength:
        image = image.filter(ImageFilter.UnsharpMask(rng.uniform(1, 3), int(rng.uniform(50, 200)), 0))
    if rng.random() < 0.2 * strength:
        side = int(len(grey) * rng.uniform(0.45, 0.9))
        image = image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)
    if rng.random() < 0.4 * strength:
        noisy = np.asarray(image) + rng.normal(0, strength * rng.uniform(1, 9), grey.shape)
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30, 95)))
        image = Image.open(buffer)
    return np.asarray(image)
