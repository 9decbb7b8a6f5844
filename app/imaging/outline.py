"""Outlines: draws the border of an organ on an overlay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.arrays import Float32Array
from app.imaging.geometry import Region
from app.imaging.grid import interpolation, visible_window

_BoolArray = npt.NDArray[np.bool_]
# The organ is where at least half of a cell belongs to it, interpolated at pixel centres.
LEVEL = 0.5
# A picture of this many pixels on its longest side gets a line one pixel wide.
_SIDE = 512


def draw_outline(picture: Image.Image, regions: Float32Array, region: Region) -> Image.Image:
    """Draw the border of an organ on `picture`, and return the result.

    The line has two colours, so that it shows on every colormap: white along the inside of the border, and black along
    the outside. No other pixel changes.

    Args:
        picture: the overlay, mode `RGB`.
        regions: the share of each cell that belongs to the organ, `[h, w]` in 0..1. Its cells divide `region` evenly;
            it is interpolated bilinearly at pixel centres.
        region: the region that the cells cover, in pixels of `picture`; it can extend beyond the picture.
    """
    inside = _organ(regions, region, picture.size)
    width = max(1, round(max(picture.size) / _SIDE))
    inner, outer = inside, inside
    for _ in range(width):
        inner, outer = ~_grown(~inner), _grown(outer)
    drawn = picture.copy()
    drawn.paste((255, 255, 255), mask=Image.fromarray(inside & ~inner))
    drawn.paste((0, 0, 0), mask=Image.fromarray(outer & ~inside))
    return drawn


def _organ(regions: Float32Array, region: Region, size: tuple[int, int]) -> _BoolArray:
    """Return which pixels of a picture of `size` (width, height) belong to the organ, bool `[height, width]`."""
    inside = np.zeros((size[1], size[0]), bool)
    if not region.meets(*size):
        return inside
    left, top, right, bottom = window = visible_window(region, size)
    down, across = interpolation((regions.shape[0], regions.shape[1]), region, window)
    inside[top:bottom, left:right] = down @ regions @ across.T >= LEVEL
    return inside


def _grown(mask: _BoolArray) -> _BoolArray:
    """Return the mask with the four neighbours of each of its pixels."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
