"""Pixels and a heatmap to an encoded picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import colormaps
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.errors import UnknownNameError
from app.geometry import Region
from app.png import png

COLORMAPS = ("jet", "turbo", "viridis", "inferno", "magma", "plasma", "cividis", "hot", "gray")


def _by_pillow(kind: str, **options: int) -> Callable[[Image.Image], bytes]:
    def encode(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        return buffer.getvalue()

    return encode


_ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: png(np.asarray(image)),
    "jpeg": _by_pillow("JPEG", quality=90),
    "webp": _by_pillow("WEBP", quality=90, method=0),
}
FORMATS = tuple(_ENCODERS)


@dataclass(frozen=True, slots=True)
class Overlay:
    """An encoded picture: its `media_type` as in HTTP, its `pixels` uint8 `[H, W, 3]`, RGB, and the file's `data`."""

    media_type: str
    pixels: UInt8Array
    data: bytes

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]


@dataclass(frozen=True, slots=True)
class Style:
    """How an overlay is drawn: `format` one of `FORMATS`, `colormap` one of `COLORMAPS`, `alpha` 0..1.

    Raises:
        UnknownNameError: a format or colormap that there isn't.
    """

    format: str = "png"
    alpha: float = 0.5
    colormap: str = "jet"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UnknownNameError("format", self.format, FORMATS)
        if self.colormap not in COLORMAPS:
            raise UnknownNameError("colormap", self.colormap, COLORMAPS)


def render(image: Image.Image, heatmap: Float32Array, region: Region, style: Style, *, max_side: int) -> Overlay:
    """Lay `heatmap` over `image` and encode the result.

    overlay = (1 - alpha)·image + alpha·colormap(heatmap), per channel in 0..255, inside the region that the network
    saw; outside of it the image stays as it is. Nothing is rescaled per image.

    Args:
        image: mode `L` or `RGB`, the original.
        heatmap: `[h, w]`, 0..1; its cells share `region` evenly, sampled bilinearly at half-pixel centres.
        region: what the network saw, in pixels of `image`; may reach outside of it (padding).
        style: format, strength and colours.
        max_side: the longest side of the overlay in pixels; a larger image is reduced, its aspect kept.
    """
    canvas = reduced(image, max_side)
    region = region.scaled(canvas.width / image.width, canvas.height / image.height)
    window = _visible(region, canvas.size)
    heat = _upsampled(heatmap, region, window)
    grey = canvas.mode == "L"
    patch = (_blended_grey if grey else _blended)(np.asarray(canvas.crop(window)), heat, style)
    canvas = canvas.convert("RGB")
    canvas.paste(Image.fromarray(patch), window)
    return Overlay(f"image/{style.format}", np.asarray(canvas), _ENCODERS[style.format](canvas))


def colours(colormap: str) -> Float32Array:
    """The 256 colours of `colormap`, float32 `[256, 3]`, RGB in 0..255, from cold to hot."""
    return _table(colormap)


@lru_cache(maxsize=len(COLORMAPS))
def _table(colormap: str) -> Float32Array:
    return (colormaps[colormap](np.arange(256))[:, :3] * 255).astype(np.float32)


def _blended(image: UInt8Array, heat: UInt8Array, style: Style) -> UInt8Array:
    """An RGB image `[H, W, 3]` and heat `[H, W]` as one, rounded."""
    mixed = (style.alpha * colours(style.colormap))[heat]
    mixed += (1 - style.alpha) * image.astype(np.float32) + 0.5
    return mixed.astype(np.uint8)


def _blended_grey(image: UInt8Array, heat: UInt8Array, style: Style) -> UInt8Array:
    """A grey image `[H, W]` and heat `[H, W]` as one: of 256 greys and 256 heats, every mixture is made only once."""
    greys = (1 - style.alpha) * np.arange(256, dtype=np.float32)
    mixtures = np.zeros((256, 256, 4), np.uint8)  # four bytes, so that a mixture is one 32-bit word
    mixtures[..., :3] = style.alpha * colours(style.colormap)[:, None] + greys[None, :, None] + 0.5
    words = mixtures.view(np.uint32).ravel().take(heat.astype(np.uint16) << 8 | image)
    return np.ascontiguousarray(words.view(np.uint8).reshape(*words.shape, 4)[..., :3])


def reduced(image: Image.Image, max_side: int) -> Image.Image:
    """`image` with its longest side brought down to `max_side` pixels, its aspect kept; a smaller one as it is."""
    longest = max(image.size)
    if longest <= max_side:
        return image
    size = (max(1, round(image.width * max_side / longest)), max(1, round(image.height * max_side / longest)))
    return image.resize(size, Image.Resampling.BILINEAR)


def _visible(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels of an image of `size` whose centres lie inside `region`, at least one."""
    left = min(max(round(region.left), 0), size[0] - 1)
    top = min(max(round(region.top), 0), size[1] - 1)
    right = max(min(round(region.right), size[0]), left + 1)
    bottom = max(min(round(region.bottom), size[1]), top + 1)
    return left, top, right, bottom


def _upsampled(heatmap: Float32Array, region: Region, window: tuple[int, int, int, int]) -> UInt8Array:
    """The heat, in 256 bins, of every pixel of `window`, uint8 `[bottom - top, right - left]`."""
    height, width = heatmap.shape
    x, y = width / region.width, height / region.height  # cells per pixel
    left, top, right, bottom = window
    box = (
        max((left - region.left) * x, 0.0),
        max((top - region.top) * y, 0.0),
        min((right - region.left) * x, width),
        min((bottom - region.top) * y, height),
    )
    size = (right - left, bottom - top)
    heat = Image.fromarray(heatmap).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.clip(np.asarray(heat) * 256.0, 0, 255).astype(np.uint8)  # the bins of a colormap, as Matplotlib has them
