"""Variants of a training film that a radiologist would read the same, and another hospital might have made."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageFilter

from app.arrays import UInt8Array

# Bumped when variants change, so that cached features of older ones are not used.
REVISION = 1


def augment(pixels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """One random variant of `pixels`, uint8 `[H, W, C]`, of the same shape.

    Position: rotation ±8°, scale 0.85-1.2, aspect ±8 %, shift ±6 %, a mirror image one time in two. Exposure: gamma
    0.6-1.6, contrast, brightness. Machine and archive: blur, JPEG, noise. Markers: a border or a corner erased.
    """
    image = Image.fromarray(pixels[..., 0])  # films are grey
    image = _moved(image, rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    values = _exposed(np.asarray(image, np.float32) / 255, rng)
    if rng.random() < 0.3:
        values = values + rng.normal(0, rng.uniform(0.005, 0.03), values.shape)
    if rng.random() < 0.4:
        values = _erased(values, rng)
    grey = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.3:
        grey = _recompressed(grey, int(rng.integers(35, 90)))
    return np.repeat(grey[..., None], pixels.shape[-1], axis=-1)


def _moved(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    angle, scale = math.radians(rng.uniform(-8, 8)), rng.uniform(0.85, 1.2)
    aspect = math.sqrt(1 + rng.uniform(-0.08, 0.08))
    x, y = width / 2 * (1 + rng.uniform(-0.12, 0.12)), height / 2 * (1 + rng.uniform(-0.12, 0.12))
    a, b = math.cos(angle) / (scale * aspect), math.sin(angle) / (scale * aspect)
    d, e = -math.sin(angle) / (scale / aspect), math.cos(angle) / (scale / aspect)
    coefficients = (a, b, x - a * width / 2 - b * height / 2, d, e, y - d * width / 2 - e * height / 2)
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _exposed(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = values ** math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
    return (values - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.1, 0.1)


def _erased(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A band along one side, or a corner, in one grey: where hospitals put their letters."""
    height, width = values.shape
    rows, columns = int(height * rng.uniform(0.03, 0.2)), int(width * rng.uniform(0.03, 0.2))
    if rng.random() < 0.5:
        rows, columns = (rows, width) if rng.random() < 0.5 else (height, columns)
    top = 0 if rng.random() < 0.5 else height - rows
    left = 0 if rng.random() < 0.5 else width - columns
    erased = values.copy()
    erased[top : top + rows, left : left + columns] = rng.uniform(0, 0.6)
    return erased


def _recompressed(grey: UInt8Array, quality: int) -> UInt8Array:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
