"""Encoded images made by code."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from tests.dicoms import dicom


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """`pixels` (uint8 `[H, W]` or `[H, W, 3]`, or an image) in a container of `kind`."""
    if kind == "DICOM":
        return dicom(np.asarray(pixels))
    if kind in ("JPEG XL", "JPEG 2000"):
        encode = imagecodecs.jpegxl_encode if kind == "JPEG XL" else imagecodecs.jpeg2k_encode
        lossless = {"lossless": True} if kind == "JPEG XL" else {"reversible": True, "level": 0}
        return encode(np.asarray(pixels), **(lossless | options))
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 40, width: int = 60, channels: int = 0, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 `[height, width]` or `[height, width, channels]`."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def constant(value: int, height: int = 40, width: int = 60) -> np.ndarray:
    """One grey, uint8 `[height, width]`."""
    return np.full((height, width), value, np.uint8)


def decoded(data: bytes) -> np.ndarray:
    """The pixels of an encoded image, uint8."""
    return np.asarray(Image.open(io.BytesIO(data)))
