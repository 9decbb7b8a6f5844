"""Stored DICOM values to what a screen shows: the grey scale transformations of DICOM PS3.4, annex N.2, in one table.

Every transformation maps a stored value on its own, and there are at most 65,536 of those: they are worked out once
for each value, and the image is looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.pixels.processing import convert_color_space

from app.arrays import UInt8Array
from app.errors import UnsupportedImageError
from app.imaging.contrast import LOW_CONTRAST, contrast_is_lost, occurrences
from app.imaging.dicom.attributes import number, numbers, term
from app.imaging.dicom.pixels import PixelFormat
from app.imaging.dicom.tables import first_table
from app.imaging.picture import AnswerWarning

Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
Warnings = tuple[AnswerWarning, ...]
_BAND = 256


def grey(pixels: np.ndarray, header: Dataset, form: PixelFormat, shift: int) -> tuple[UInt8Array, Warnings]:
    """Stored values `[H, W]`, integers of 8 or 16 bits, as grey `[H, W]`, 0 black.

    The modality table or rescale; then the first VOI table, else the first window, else the range of the values that
    occur (padding left out); MONOCHROME1 inverted; padding black.
    """
    pixels = _unsigned(pixels)
    counts = occurrences(pixels)
    stored = stored_values(pixels.dtype, form, shift)
    padding = _is_padding(stored, header, form)
    measured = (counts > 0) & ~padding
    shown = _shown(stored, header, measured)
    if form.meaning == "MONOCHROME1":
        shown = 1 - shown
    shown[padding] = 0
    table = _eight_bits(shown)
    return looked_up(pixels, table), _warnings(counts[measured], stored[measured], table[measured])


def colour(pixels: np.ndarray, form: PixelFormat, meaning: str) -> tuple[UInt8Array, Warnings]:
    """RGB `[H, W, 3]` of unsigned samples of `form.bits` bits, which are RGB or, by their `meaning`, YCbCr."""
    warnings: Warnings = ()
    if pixels.dtype != np.uint8 or form.bits != 8:
        pixels = _unsigned(pixels)
        top = 2**form.bits - 1
        values = np.arange(np.iinfo(pixels.dtype).max + 1)
        table = _eight_bits(np.minimum(values, top) / top)
        counts = occurrences(pixels)
        warnings = _warnings(counts, values, table)
        pixels = looked_up(pixels, table)
    return (convert_color_space(pixels, meaning, "RGB") if meaning.startswith("YBR_FULL") else pixels), warnings


def palette(pixels: np.ndarray, header: Dataset, form: PixelFormat, shift: int) -> tuple[UInt8Array, Warnings]:
    """Palette entries `[H, W]` as RGB `[H, W, 3]`, 8 bits."""
    pixels = _unsigned(pixels)
    stored = stored_values(pixels.dtype, form, shift)
    colours = apply_color_lut(stored, header)
    colours = _eight_bits(colours / np.iinfo(colours.dtype).max)
    warnings = _warnings(occurrences(pixels), stored, colours.mean(axis=1))
    return np.stack([looked_up(pixels, colours[:, channel]) for channel in range(3)], axis=-1), warnings


def windowed(values: npt.ArrayLike, center: float, width: float, function: str = "LINEAR") -> Float64Array:
    """`values` through a window, 0..1 (DICOM PS3.3, C.11.2.1.2 and .3): `LINEAR`, `LINEAR_EXACT` or `SIGMOID`.

    The standard defines `LINEAR` from width 1 on; a narrower window, of values that are fractions, is taken exactly.
    """
    x = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * ((x - center) / width), -500, 500)))
        if function != "LINEAR_EXACT" and width >= 1:
            # The definition counts in whole steps: a window of width w reaches over w - 1 of them.
            center, width = center - 0.5, max(width - 1, 1e-9)
        return np.clip((x - center) / width + 0.5, 0, 1)


def stored_values(kind: np.dtype[np.unsignedinteger[Any]], form: PixelFormat, shift: int) -> Int32Array:
    """For every bit pattern of `kind` (uint8 or uint16) the number that it stores, int32 `[256]` or `[65536]`.

    Bits above and below the stored ones may hold an overlay's drawing, and are left out.
    """
    patterns = np.arange(np.iinfo(kind).max + 1, dtype=np.int32)
    patterns = (patterns >> shift) & ((1 << form.bits) - 1)
    if form.signed:
        patterns -= (patterns >> form.bits - 1) << form.bits
    return patterns


def looked_up(pixels: np.ndarray, table: UInt8Array) -> UInt8Array:
    """`table[pixels]`, a band of rows at a time: NumPy would widen all indices to eight bytes."""
    out = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _BAND):
        table.take(pixels[top : top + _BAND], out=out[top : top + _BAND], mode="clip")
    return out


def _unsigned(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.itemsize > 2:
        raise UnsupportedImageError("DICOM pixels of 32 bits are not supported; send 8 to 16 bits")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(f"u{pixels.dtype.itemsize}")


def _is_padding(stored: Int32Array, header: Dataset, form: PixelFormat) -> npt.NDArray[np.bool_]:
    """Which stored values stand for no measurement (DICOM PS3.3, C.7.5.1.1.2).

    Its sign is the pixels', however it was written.
    """
    first = number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, np.bool_)
    last = number(header, "PixelPaddingRangeLimit")
    low, high = (_as_stored(int(end), form) for end in (first, first if last is None else last))
    if low is None or high is None:  # no number of so many bits, but the whole word may be it
        return np.arange(len(stored)) == int(first) & 0xFFFF
    return (stored >= min(low, high)) & (stored <= max(low, high))


def _as_stored(value: int, form: PixelFormat) -> int | None:
    """A number that was written as US or as SS, or as the bare bits of a signed one, as pixels of `form` store it."""
    low = -(1 << form.bits - 1) if form.signed else 0
    pattern = value & ((1 << form.bits) - 1)
    readings = [value, (value & 0xFFFF) - 65536 if form.signed else value & 0xFFFF]
    if form.signed:
        readings.append(pattern - ((pattern >> form.bits - 1) << form.bits))
    return next((number for number in readings if low <= number < low + (1 << form.bits)), None)


def _shown(stored: Int32Array, header: Dataset, measured: npt.NDArray[np.bool_]) -> Float64Array:
    """What each stored value is shown as, 0..1, before any inversion; `measured` are those that occur."""
    values = _modality(stored, header, measured)
    table = first_table(header, "VOILUTSequence")
    if table is not None:
        return table.looked_up(values, measured) / table.top()
    window = _window(header)
    if window is not None:
        return windowed(values, *window, term(header, "VOILUTFunction"))
    if not measured.any():
        return np.zeros(values.shape)
    low, high = values[measured].min(), values[measured].max()
    return np.clip((values - low) / (high - low or 1.0), 0, 1)


def _modality(stored: Int32Array, header: Dataset, measured: npt.NDArray[np.bool_]) -> Float64Array:
    """What the stored values measure: by the first table, else by slope and intercept, else as they are.

    Slope and intercept count together: empty ones are 1 and 0; both are void where one is absent or no number, or the
    slope is 0.
    """
    values = stored.astype(np.float64)
    table = first_table(header, "ModalityLUTSequence")
    if table is not None:
        return table.looked_up(values, measured)
    if "RescaleSlope" not in header or "RescaleIntercept" not in header:
        return values
    slope, intercept = (numbers(header, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    factor, offset = (slope or [1.0])[0], (intercept or [0.0])[0]
    if not factor or offset is None:
        return values
    with np.errstate(over="ignore"):
        rescaled = values * factor + offset
    return rescaled if np.isfinite(rescaled).all() else values


def _window(header: Dataset) -> tuple[float, float] | None:
    """Center and width of the first window that has both, the width above 0."""
    centers, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    pairs = list(zip(centers, widths, strict=False))
    if len(centers) != len(widths):  # then only the first of each can belong together
        pairs.append((_first(centers), _first(widths)))
    for center, width in pairs:
        if center is not None and width is not None and width > 0:
            return center, width
    return None


def _first(values: list[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _warnings(counts: npt.NDArray[np.int64], stored: np.ndarray, shown: np.ndarray) -> Warnings:
    return (LOW_CONTRAST,) if contrast_is_lost(counts, stored, shown) else ()


def _eight_bits(shown: Float64Array) -> UInt8Array:
    return (shown * 255 + 0.5).astype(np.uint8)
