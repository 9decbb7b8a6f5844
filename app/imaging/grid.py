"""Grids of cells over a region of an image: the pixels that they cover, and interpolation between cells."""

from __future__ import annotations

import numpy as np
from PIL import Image

from app.arrays import Float32Array
from app.imaging.geometry import Region

# Left, top, right and bottom in whole pixels, as in Pillow.
Window = tuple[int, int, int, int]


def visible_window(region: Region, size: tuple[int, int]) -> Window:
    """Return the box of pixels, at least one, of an image of `size` (width, height) whose centres are in `region`.

    A part of the region must be inside the image.
    """
    left = min(max(round(region.left), 0), size[0] - 1)
    top = min(max(round(region.top), 0), size[1] - 1)
    right = max(min(round(region.right), size[0]), left + 1)
    bottom = max(min(round(region.bottom), size[1]), top + 1)
    return left, top, right, bottom


def interpolation(shape: tuple[int, int], region: Region, window: Window) -> tuple[Float32Array, Float32Array]:
    """Return the weights of the rows and of the columns of a grid in the pixels of `window`.

    They are those of bilinear interpolation between the centres of cells: `down @ grid @ across.T` are the pixels.

    Args:
        shape: the rows and columns `(h, w)` of the grid, which divide `region` evenly.
        region: the region that the grid covers, in pixels.
        window: the pixels, inside the region.

    Returns:
        `down` `[bottom - top, h]` and `across` `[right - left, w]`.
    """
    height, width = shape
    x, y = width / region.width, height / region.height  # cells per pixel
    left, top, right, bottom = window
    box = (
        max((left - region.left) * x, 0.0),
        max((top - region.top) * y, 0.0),
        min((right - region.left) * x, width),
        min((bottom - region.top) * y, height),
    )
    return _shares(height, bottom - top, box[1], box[3]), _shares(width, right - left, box[0], box[2])


def cells_of(count: int, start: float, extent: float, pixels: range) -> np.ndarray:
    """Return the index of the cell that contains the centre of each of `pixels`.

    `count` cells divide evenly the `extent` that begins at `start`, both in pixels.
    """
    # Integers stay exact up to the division, so a centre on an edge between two cells belongs to the second.
    centres = np.asarray(pixels) + 0.5 - start
    return np.clip(np.floor(centres * count / extent), 0, count - 1).astype(np.intp)


def overlaps(cells: int, start: float, stop: float, pixels: int) -> np.ndarray:
    """Return the share of each cell that each pixel covers, `[cells, pixels]`.

    The cells divide evenly `start` to `stop`, in pixels, along an axis of an image of `pixels`. No pixel covers what
    lies outside the image.
    """
    edges, left = np.linspace(start, stop, cells + 1)[:, None], np.arange(pixels)
    overlap = np.minimum(edges[1:], left + 1) - np.maximum(edges[:-1], left)
    return np.maximum(overlap, 0) * cells / (stop - start)


def _shares(cells: int, pixels: int, start: float, stop: float) -> Float32Array:
    """Return the weight of each cell in each pixel, `[pixels, cells]`, if cells `start`..`stop` cover the pixels.

    These are the weights that Pillow uses: it resamples the unit matrix.
    """
    unit = Image.fromarray(np.eye(cells, dtype=np.float32))
    return np.asarray(unit.resize((cells, pixels), Image.Resampling.BILINEAR, box=(0, start, cells, stop)))
