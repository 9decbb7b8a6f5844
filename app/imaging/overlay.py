"""Overlays: draws a heatmap over an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

import numpy as np
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.errors import UnknownNameError
from app.imaging.encoders import PICTURE_FORMATS
from app.imaging.geometry import Region
from app.imaging.grid import Window, interpolation, visible_window

COLORMAPS = ("jet", "turbo", "viridis", "inferno", "magma", "plasma", "cividis", "hot", "gray")

_BAND = 64


@dataclass(frozen=True, slots=True)
class Style:
    """The style of an overlay: a `format` of `PICTURE_FORMATS`, a `colormap` of `COLORMAPS`, and an `alpha` in 0..1.

    Raises:
        UnknownNameError: if there is no such format or colormap.
    """

    format: str = "png"
    alpha: float = 0.5
    colormap: str = "jet"

    def __post_init__(self) -> None:
        if self.format not in PICTURE_FORMATS:
            raise UnknownNameError("format", self.format, PICTURE_FORMATS)
        if self.colormap not in COLORMAPS:
            raise UnknownNameError("colormap", self.colormap, COLORMAPS)


def draw_overlay(
    image: Image.Image, heatmap: Float32Array, region: Region, style: Style, *, max_side: int
) -> Image.Image:
    """Draw `heatmap` over `image`, and return a picture of mode `RGB`.

    Inside the region that the network saw, overlay = (1 - alpha)·image + alpha·colormap(heatmap), per channel in
    0..255. Outside, the image is unchanged. The heatmap is not rescaled.

    Args:
        image: the original, mode `L` or `RGB`.
        heatmap: `[h, w]`, in 0..1. Its cells divide `region` evenly; it is interpolated bilinearly at pixel centres.
        region: the region that the network saw, in pixels of `image`; it can extend beyond the image (padding).
        style: opacity and colormap; the format is ignored here.
        max_side: the longest side of the overlay, in pixels; a larger image is downscaled, keeping its aspect ratio.
    """
    canvas = downscaled(image, max_side)
    region = region.scaled(canvas.width / image.width, canvas.height / image.height)
    if not region.meets(*canvas.size):
        return canvas.convert("RGB")
    window = visible_window(region, canvas.size)
    picture = _blended(canvas.crop(window), _upsampled(heatmap, region, window), style)
    if picture.size != canvas.size:
        patch, picture = picture, canvas.convert("RGB")
        picture.paste(patch, window)
    return picture


def colours(colormap: str) -> Float32Array:
    """Return the 256 colours of `colormap`, from cold to hot: float32 `[256, 3]`, RGB in 0..255."""
    return _tables()[colormap]


@cache
def _tables() -> dict[str, Float32Array]:
    """Load Matplotlib's colormaps, rounded to a thousandth of an 8-bit step. The web page reads the same file."""
    text = (resources.files("app.imaging") / "colormaps" / "colormaps.json").read_text(encoding="ascii")
    return {name: np.array(table, np.float32) for name, table in json.loads(text).items()}


def _blended(image: Image.Image, heat: UInt8Array, style: Style) -> Image.Image:
    """Blend an image of mode `L` or `RGB` with the colours of `heat` `[H, W]`, and return an RGB image."""
    mixtures = _mixtures(style.colormap, style.alpha)
    if image.mode == "L":
        pixels = _look_up(mixtures.view(np.uint32), heat, np.asarray(image))
        return Image.frombytes("RGB", image.size, pixels.data, "raw", "RGBX")
    channels = enumerate(image.split())
    mixed = [_look_up(mixtures[..., number].copy(), heat, np.asarray(channel)) for number, channel in channels]
    return Image.merge("RGB", [Image.fromarray(channel) for channel in mixed])


@lru_cache(maxsize=16)
def _mixtures(colormap: str, alpha: float) -> UInt8Array:
    """Return the blend of each heat with each value, uint8 `[256, 256, 4]`: RGB, padded to a 32-bit word."""
    values = (1 - alpha) * np.arange(256, dtype=np.float32)
    mixtures = np.full((256, 256, 4), 255, np.uint8)
    mixtures[..., :3] = alpha * colours(colormap)[:, None] + values[None, :, None] + 0.5
    mixtures.flags.writeable = False  # callers share it
    return mixtures


def _look_up(table: np.ndarray, heat: UInt8Array, values: UInt8Array) -> np.ndarray:
    """Return `table[heat, values]`, `[H, W]`; the table has 256 x 256 entries, heat and values are `[H, W]`."""
    entries, found = table.ravel(), np.empty(heat.shape, table.dtype)
    indices = np.empty((_BAND, heat.shape[1]), np.intp)
    for rows in _bands(len(heat)):
        index = indices[: len(heat[rows])]
        index[:] = heat[rows]
        index <<= 8
        index |= values[rows]
        entries.take(index, out=found[rows], mode="clip")  # the default mode makes a copy
    return found


def _bands(height: int) -> Iterator[slice]:
    """Yield bands of rows that are small enough for their temporary arrays to fit into the processor's cache."""
    return (slice(start, start + _BAND) for start in range(0, height, _BAND))


def downscaled(image: Image.Image, max_side: int) -> Image.Image:
    """Downscale `image` to at most `max_side` pixels on its longest side, keeping its aspect ratio."""
    longest = max(image.size)
    if longest <= max_side:
        return image
    size = (max(1, round(image.width * max_side / longest)), max(1, round(image.height * max_side / longest)))
    return image.resize(size, Image.Resampling.BILINEAR)


def _upsampled(heatmap: Float32Array, region: Region, window: Window) -> UInt8Array:
    """Upsample the heatmap to the pixels of `window`, in 256 bins, uint8 `[bottom - top, right - left]`."""
    down, across = interpolation(heatmap.shape, region, window)
    strips = down @ heatmap  # [bottom - top, w]
    spread = 256 * across.T  # the bins of a colormap, as in Matplotlib
    heat = np.empty((len(down), len(across)), np.uint8)
    for rows in _bands(len(heat)):
        heat[rows] = np.minimum(strips[rows] @ spread, 255)
    return heat
