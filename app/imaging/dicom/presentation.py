"""Display of stored DICOM values: the grayscale transformations of DICOM PS3.4, annex N.2, as lookup tables.

Each transformation maps stored values independently, and there are at most 65,536 of them. The module transforms each
value once, and then looks up the pixels.
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
    """Convert stored values `[H, W]`, integers of 8 or 16 bits, to grey `[H, W]`, 0 black.

    The steps are: the modality table or rescale; then the first VOI table, or else the first window, or else the range
    of the values that occur, without padding; for MONOCHROME1, an inversion. Padding is black.

    Raises:
        UnsupportedImageError: if the pixels have 32 bits.
        CorruptImageError: if a table is too large.
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
    return _look_up(pixels, table), _warnings(counts[measured], stored[measured], table[measured])


def colour(pixels: np.ndarray, form: PixelFormat, meaning: str) -> tuple[UInt8Array, Warnings]:
    """Convert unsigned samples `[H, W, 3]` of `form.bits` bits, RGB or YCbCr by their `meaning`, to 8-bit RGB."""
    warnings: Warnings = ()
    if pixels.dtype != np.uint8 or form.bits != 8:
        pixels = _unsigned(pixels)
        top = 2**form.bits - 1
        values = np.arange(np.iinfo(pixels.dtype).max + 1)
        table = _eight_bits(np.minimum(values, top) / top)
        counts = occurrences(pixels)
        warnings = _warnings(counts, values, table)
        pixels = _look_up(pixels, table)
    return (convert_color_space(pixels, meaning, "RGB") if meaning.startswith("YBR_FULL") else pixels), warnings


def palette(pixels: np.ndarray, header: Dataset, form: PixelFormat, shift: int) -> tuple[UInt8Array, Warnings]:
    """Convert palette entries `[H, W]` to RGB `[H, W, 3]`, 8 bits."""
    pixels = _unsigned(pixels)
    stored = stored_values(pixels.dtype, form, shift)
    colours = apply_color_lut(stored, header)
    colours = _eight_bits(colours / np.iinfo(colours.dtype).max)
    warnings = _warnings(occurrences(pixels), stored, colours.mean(axis=1))
    return np.stack([_look_up(pixels, colours[:, channel]) for channel in range(3)], axis=-1), warnings


def windowed(values: npt.ArrayLike, center: float, width: float, function: str = "LINEAR") -> Float64Array:
    """Apply a window to `values`; the result is in 0..1 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3).

    `function` is `LINEAR`, `LINEAR_EXACT` or `SIGMOID`. The standard defines `LINEAR` for widths of at least 1;
    narrower windows, which fractional values need, are `LINEAR_EXACT`.
    """
    x = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * ((x - center) / width), -500, 500)))
        if function != "LINEAR_EXACT" and width >= 1:
            # The standard counts in whole steps: a window of width w spans w - 1 of them.
            center, width = center - 0.5, max(width - 1, 1e-9)
        return np.clip((x - center) / width + 0.5, 0, 1)


def stored_values(kind: np.dtype[np.unsignedinteger[Any]], form: PixelFormat, shift: int) -> Int32Array:
    """Return the stored value of each bit pattern of `kind` (uint8 or uint16), int32 `[256]` or `[65536]`.

    Bits above and below the stored ones are ignored, because they can contain overlays.
    """
    patterns = np.arange(np.iinfo(kind).max + 1, dtype=np.int32)
    patterns = (patterns >> shift) & ((1 << form.bits) - 1)
    if form.signed:
        patterns -= (patterns >> form.bits - 1) << form.bits
    return patterns


def _look_up(pixels: np.ndarray, table: UInt8Array) -> UInt8Array:
    """Return `table[pixels]`, computed in bands of rows, because NumPy widens all indices to eight bytes."""
    out = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _BAND):
        table.take(pixels[top : top + _BAND], out=out[top : top + _BAND], mode="clip")
    return out


def _unsigned(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.itemsize > 2:
        raise UnsupportedImageError("DICOM pixels of 32 bits are not supported; send 8 to 16 bits")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(f"u{pixels.dtype.itemsize}")


def _is_padding(stored: Int32Array, header: Dataset, form: PixelFormat) -> npt.NDArray[np.bool_]:
    """Return a mask of the stored values that are padding (DICOM PS3.3, C.7.5.1.1.2).

    The padding value has the sign of the pixels, whether it is written as US or SS.
    """
    first = number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, np.bool_)
    last = number(header, "PixelPaddingRangeLimit")
    low, high = (_as_stored(int(end), form) for end in (first, first if last is None else last))
    if low is None or high is None:  # not a stored value, but possibly a whole word
        return np.arange(len(stored)) == int(first) & 0xFFFF
    return (stored >= min(low, high)) & (stored <= max(low, high))


def _as_stored(value: int, form: PixelFormat) -> int | None:
    """Return `value`, written as US, as SS or as the bits of a signed number, as a stored value; None if it is none."""
    low = -(1 << form.bits - 1) if form.signed else 0
    pattern = value & ((1 << form.bits) - 1)
    readings = [value, (value & 0xFFFF) - 65536 if form.signed else value & 0xFFFF]
    if form.signed:
        readings.append(pattern - ((pattern >> form.bits - 1) << form.bits))
    return next((number for number in readings if low <= number < low + (1 << form.bits)), None)


def _shown(stored: Int32Array, header: Dataset, measured: npt.NDArray[np.bool_]) -> Float64Array:
    """Return the display value of each stored value, 0..1, before inversion; `measured` masks the values that occur."""
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
    """Apply the modality table, else slope and intercept, to the stored values.

    Empty slopes and intercepts are 1 and 0. If one of the two is missing or not a number, or if the slope is 0, neither
    applies.
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
    """Return center and width of the first window that has both, with a width above 0."""
    centers, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    pairs = list(zip(centers, widths, strict=False))
    if len(centers) != len(widths):  # then the first valid values form a pair
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
