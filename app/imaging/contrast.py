"""Scaling of deep pixel values to 8 bits, and the check that contrast is left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.arrays import UInt8Array
from app.imaging.picture import AnswerWarning

LOW_CONTRAST = AnswerWarning(
    "low_contrast",
    "the decoded image has almost no contrast although its stored values have some; the window, table or range in the "
    "file does not fit the pixels",
)
_BAND = 256
_LEVELS = 16
_IGNORED = 0.05  # of the pixels, at either end


def scaled(values: np.ndarray, top: int) -> UInt8Array:
    """Scale unsigned values `[H, W]` or `[H, W, 3]` from 0..`top` to 0..255, rounded.

    The function processes bands of rows, because temporary arrays of the whole image would take 20 bytes per pixel.
    """
    pixels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BAND):
        band = np.minimum(values[start : start + _BAND].astype(np.uint32), top)
        pixels[start : start + _BAND] = (band * 255 + top // 2) // top
    return pixels


def occurrences(pixels: np.ndarray) -> npt.NDArray[np.int64]:
    """Count each bit pattern in uint8 or uint16 `pixels`: int64 `[256]` or `[65536]`."""
    found = np.zeros(np.iinfo(pixels.dtype).max + 1, np.int64)
    for start in range(0, len(pixels), _BAND):
        found += np.bincount(pixels[start : start + _BAND].ravel(), minlength=len(found))
    return found


def contrast_is_lost(counts: npt.NDArray[np.int64], stored: np.ndarray, shown: np.ndarray) -> bool:
    """Return whether `shown` values (0..255) lack the contrast of the `stored` ones; `counts` pixels have each pair.

    An image has contrast if the middle 90 % of its pixels cover 16 levels or more. The shown values can lack it by
    their range or, behind a threshold, by the number of different levels.
    """
    (stored_range, stored_levels), (shown_range, shown_levels) = (_contrast(counts, of) for of in (stored, shown))
    by_range = shown_range < _LEVELS <= stored_range
    return by_range or shown_levels < _LEVELS <= stored_levels


def warn_if_lost(values: np.ndarray, pixels: UInt8Array) -> tuple[AnswerWarning, ...]:
    """Return `LOW_CONTRAST` if 8-bit `pixels` have lost the contrast of the uint16 `values` they were scaled from."""
    counts = occurrences(values)
    present = np.flatnonzero(counts)
    shown = np.zeros(len(counts), np.int64)
    for start in range(0, len(values), _BAND):
        shown[values[start : start + _BAND]] = pixels[start : start + _BAND]
    return (LOW_CONTRAST,) if contrast_is_lost(counts[present], present, shown[present]) else ()


def _contrast(counts: npt.NDArray[np.int64], values: np.ndarray) -> tuple[float, int]:
    """Return the range of the values in the middle 90 % of the pixels, and the number of different values."""
    distinct, place = np.unique(values, return_inverse=True)
    each = np.bincount(place, weights=counts, minlength=len(distinct))
    after = np.cumsum(each)
    total = after[-1] if len(after) else 0
    middle = distinct[(each > 0) & (after > _IGNORED * total) & (after - each < (1 - _IGNORED) * total)]
    return (float(middle[-1] - middle[0]), len(middle)) if len(middle) else (0.0, 0)
