"""Display of stored DICOM values: the grayscale transformations of DICOM PS3.4, annex N.2, as lookup tables.

Each transformation maps stored values independently, and there are at most 65,536 of them. The module transforms each
value once, and then looks up the pixels.
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
    """Convert stored values `[H, W]`, integers of 8 or 16 bits, to grey `[H, W]`, where 0 is black.

    The steps are: the modality table or rescale; then the first VOI table, or else the first window, or else the range
    of the values that occur, without padding; for MONOCHROME1, an inversion. Padding is black.

    Raises:
        UnsupportedImageError: if the pixels have 32 bits.
        CorruptImageError: if a table is too large.
    """
    pixels = _unsigned(pixels)
    stored = _stored_values(pixels.dtype, header)
    padding = _is_padding(stored, header)
    shown = _shown(stored, header, _present(pixels) & ~padding)
    if header.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    shown[padding] = 0
    return _look_up(pixels, _eight_bits(shown))


def colour(pixels: np.ndarray, header: Dataset) -> UInt8Array:
    """Scale RGB `[H, W, 3]`, unsigned integers of `BitsStored` bits, to 8 bits."""
    if pixels.dtype == np.uint8 and header.BitsStored == 8:
        return pixels
    pixels = _unsigned(pixels)
    top = 2**header.BitsStored - 1
    values = np.arange(np.iinfo(pixels.dtype).max + 1)
    return _look_up(pixels, _eight_bits(np.minimum(values, top) / top))


def palette(pixels: np.ndarray, header: Dataset) -> UInt8Array:
    """Convert palette entries `[H, W]` to RGB `[H, W, 3]`, 8 bits."""
    pixels = _unsigned(pixels)
    colours = apply_color_lut(_stored_values(pixels.dtype, header), header)
    colours = _eight_bits(colours / np.iinfo(colours.dtype).max)
    return np.stack([_look_up(pixels, colours[:, channel]) for channel in range(3)], axis=-1)


def _apply_window(values: npt.ArrayLike, center: float, width: float, function: str = "LINEAR") -> Float64Array:
    """Apply a window to `values`; the result is in 0..1 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3).

    `function` is `LINEAR`, `LINEAR_EXACT` or `SIGMOID`.
    """
    x = np.asarray(values, np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -500, 500)))
    if function == "LINEAR":
        # The standard counts in whole steps: a window of width w spans w - 1 of them.
        center, width = center - 0.5, max(width - 1, 1e-9)
    return np.clip((x - center) / width + 0.5, 0, 1)


def _stored_values(kind: np.dtype[np.unsignedinteger[Any]], header: Dataset) -> npt.NDArray[np.int32]:
    """Return the stored value of each bit pattern of `kind` (uint8 or uint16), int32 `[256]` or `[65536]`.

    Bits above `HighBit` are ignored, because they can contain an overlay.
    """
    bits = header.BitsStored
    patterns = np.arange(np.iinfo(kind).max + 1, dtype=np.int32)
    patterns &= (1 << bits) - 1
    if header.PixelRepresentation == 1:
        patterns -= (patterns >> bits - 1) << bits
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


def _present(pixels: np.ndarray) -> npt.NDArray[np.bool_]:
    """Return a mask of the bit patterns that occur in `pixels`."""
    present = np.zeros(np.iinfo(pixels.dtype).max + 1, np.bool_)
    for top in range(0, len(pixels), _BAND):
        present[pixels[top : top + _BAND]] = True
    return present


def _is_padding(stored: npt.NDArray[np.int32], header: Dataset) -> npt.NDArray[np.bool_]:
    """Return a mask of the stored values that are padding (DICOM PS3.3, C.7.5.1.1.2)."""
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, np.bool_)
    last = header.get("PixelPaddingRangeLimit", first)
    low, high = min(first, last), max(first, last)
    return (stored >= low) & (stored <= high)


def _shown(stored: npt.NDArray[np.int32], header: Dataset, measured: npt.NDArray[np.bool_]) -> Float64Array:
    """Return the display value of each stored value, 0..1, before inversion; `measured` masks the values that occur."""
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_table(header, keyword)
    values = apply_modality_lut(stored, header).astype(np.float64)
    if header.get("VOILUTSequence"):
        bits = header.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(np.rint(values).astype(np.int32), header) / (2.0**bits - 1)
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is not None and width is not None and width > 0:
        return _apply_window(values, center, width, header.get("VOILUTFunction", "LINEAR") or "LINEAR")
    if not measured.any():
        return np.zeros(values.shape)
    low, high = values[measured].min(), values[measured].max()
    return np.clip((values - low) / (high - low or 1.0), 0, 1)


def _check_table(header: Dataset, keyword: str) -> None:
    """Raise `CorruptImageError` for a table whose size would make parsing take seconds."""
    if keyword in header:
        raw = header.get_item(keyword)
        if raw.is_raw and raw.value is not None and len(raw.value) > _MAX_TABLE_BYTES:
            raise CorruptImageError(f"the DICOM image can't be decoded: its {keyword} is too large")


def _first(value: Any) -> float | None:
    """Return the first number of a value with any multiplicity, or None if it is empty."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__getitem__"):
        return None if value is None or value == "" else float(value)
    return float(value[0]) if len(value) else None


def _eight_bits(shown: Float64Array) -> UInt8Array:
    return (shown * 255 + 0.5).astype(np.uint8)
