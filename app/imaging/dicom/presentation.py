"""Stored DICOM values to what a screen shows: the grey scale transformations of DICOM PS3.4, annex N.2, in one table.

Every transformation maps a stored value on its own, and there are at most 65,536 of those: they are worked out once
for each value, and the image is looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi

from app.arrays import UInt8Array
from app.errors import CorruptImageError, UnsupportedImageError

Float64Array = npt.NDArray[np.float64]
_BAND = 256
_MAX_TABLE_BYTES = 1024 * 1024


def grey(pixels: np.ndarray, header: Dataset) -> UInt8Array:
    """Stored values `[H, W]`, integers of 8 or 16 bits, as grey `[H, W]`, 0 black.

    The modality table or rescale; then the first VOI table, else the first window, else the range of the values that
    occur (padding left out); MONOCHROME1 inverted; padding black.
    """
    pixels = _unsigned(pixels)
    stored = stored_values(pixels.dtype, header)
    padding = _is_padding(stored, header)
    shown = _shown(stored, header, _present(pixels) & ~padding)
    if header.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    shown[padding] = 0
    return looked_up(pixels, _eight_bits(shown))


def colour(pixels: np.ndarray, header: Dataset) -> UInt8Array:
    """RGB `[H, W, 3]`, unsigned integers of `BitsStored` bits, scaled to 8 bits."""
    if pixels.dtype == np.uint8 and header.BitsStored == 8:
        return pixels
    pixels = _unsigned(pixels)
    top = 2**header.BitsStored - 1
    values = np.arange(np.iinfo(pixels.dtype).max + 1)
    return looked_up(pixels, _eight_bits(np.minimum(values, top) / top))


def palette(pixels: np.ndarray, header: Dataset) -> UInt8Array:
    """Palette entries `[H, W]` as RGB `[H, W, 3]`, 8 bits."""
    pixels = _unsigned(pixels)
    colours = apply_color_lut(stored_values(pixels.dtype, header), header)
    colours = _eight_bits(colours / np.iinfo(colours.dtype).max)
    return np.stack([looked_up(pixels, colours[:, channel]) for channel in range(3)], axis=-1)


def windowed(values: npt.ArrayLike, center: float, width: float, function: str = "LINEAR") -> Float64Array:
    """`values` through a window, 0..1 (DICOM PS3.3, C.11.2.1.2 and .3): `LINEAR`, `LINEAR_EXACT` or `SIGMOID`."""
    x = np.asarray(values, np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -500, 500)))
    if function == "LINEAR":
        # The standard's definition counts in whole steps: a window of width w reaches over w - 1 of them.
        center, width = center - 0.5, max(width - 1, 1e-9)
    return np.clip((x - center) / width + 0.5, 0, 1)


def stored_values(kind: np.dtype[np.unsignedinteger[Any]], header: Dataset) -> npt.NDArray[np.int32]:
    """For every bit pattern of `kind` (uint8 or uint16) the number that it stores, int32 `[256]` or `[65536]`.

    Bits above `HighBit` may hold an overlay's drawing, and are left out.
    """
    bits = header.BitsStored
    patterns = np.arange(np.iinfo(kind).max + 1, dtype=np.int32)
    patterns &= (1 << bits) - 1
    if header.PixelRepresentation == 1:
        patterns -= (patterns >> bits - 1) << bits
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


def _present(pixels: np.ndarray) -> npt.NDArray[np.bool_]:
    """Which bit patterns occur."""
    present = np.zeros(np.iinfo(pixels.dtype).max + 1, np.bool_)
    for top in range(0, len(pixels), _BAND):
        present[pixels[top : top + _BAND]] = True
    return present


def _is_padding(stored: npt.NDArray[np.int32], header: Dataset) -> npt.NDArray[np.bool_]:
    """Which stored values stand for no measurement (DICOM PS3.3, C.7.5.1.1.2)."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, np.bool_)
    last = header.get("PixelPaddingRangeLimit", first)
    low, high = min(first, last), max(first, last)
    return (stored >= low) & (stored <= high)


def _shown(stored: npt.NDArray[np.int32], header: Dataset, measured: npt.NDArray[np.bool_]) -> Float64Array:
    """What each stored value is shown as, 0..1, before any inversion; `measured` are those that occur."""
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_table(header, keyword)
    values = apply_modality_lut(stored, header).astype(np.float64)
    if header.get("VOILUTSequence"):
        bits = header.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(np.rint(values).astype(np.int32), header) / (2.0**bits - 1)
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is not None and width is not None and width > 0:
        return windowed(values, center, width, header.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if not measured.any():
        return np.zeros(values.shape)
    low, high = values[measured].min(), values[measured].max()
    return np.clip((values - low) / (high - low or 1.0), 0, 1)


def _check_table(header: Dataset, keyword: str) -> None:
    """Refuse a table so large that reading its items would take seconds."""
    if keyword in header:
        raw = header.get_item(keyword)
        if raw.is_raw and raw.value is not None and len(raw.value) > _MAX_TABLE_BYTES:
            raise CorruptImageError(f"the DICOM image can't be decoded: its {keyword} is too large")


def _first(value: Any) -> float | None:
    """The first of what may be several numbers, or none."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__getitem__"):
        return None if value is None or value == "" else float(value)
    return float(value[0]) if len(value) else None


def _eight_bits(shown: Float64Array) -> UInt8Array:
    return (shown * 255 + 0.5).astype(np.uint8)
