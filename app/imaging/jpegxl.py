"""JPEG XL (ISO/IEC 18181-1): its header, and a decoder based on imagecodecs."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from imagecodecs import jpegxl_decode
from PIL import Image

from app.errors import UnsupportedImageError
from app.imaging.contrast import scaled, warn_if_lost
from app.imaging.headers import check_size, damaged
from app.imaging.picture import FIRST_FRAME, AnswerWarning, Picture

_NAME = "JPEG XL"
_HEADER_BYTES = 64
_MAX_BOXES = 1000
# Width : height of the ratios in a SizeHeader (18181-1, table D.3).
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
# (offset, bits) of the four encodings of a number, U32 (18181-1, B.2.2).
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW_SIDE = ((1, 6), (65, 8), (321, 10), (1345, 12))
_PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))
_TICKS = ((100, 0), (1000, 0), (1, 10), (1, 30))
_TICKS_DIVISOR = ((1, 0), (1001, 0), (1, 8), (1, 10))
_LOOPS = ((0, 0), (0, 3), (0, 16), (0, 32))
_WHOLE_BITS = ((8, 0), (10, 0), (12, 0), (1, 6))
_EXTRA_CHANNELS = ((0, 0), (1, 0), (2, 4), (1, 12))


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    bits: int
    floating: bool
    extra_channels: int
    animated: bool


class _Bits:
    """A reader of bits, least significant first; bits after the end are zero."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def number(self, ways: tuple[tuple[int, int], ...]) -> int:
        offset, count = ways[self.take(2)]
        return offset + self.take(count)


def decode_jpegxl(data: bytes, max_pixels: int) -> Picture:
    """Decode a JPEG XL image, with or without container, upright. Only the first frame of an animation is decoded.

    Raises:
        UnsupportedImageError: if samples are floating-point or have more than 16 bits, or if there are extra channels
            other than one alpha channel.
        ImageTooLargeError: if the header declares more than `max_pixels` pixels.
        CorruptImageError: if the image is truncated or damaged.
    """
    header = _header(_codestream_start(data))
    check_size(header.width, header.height, max_pixels)
    if header.floating or header.bits > 16:
        raise UnsupportedImageError(
            "JPEG XL pixels of floating point or over 16 bits have no known range; send 8 or 16 bits"
        )
    if header.extra_channels > 1:
        raise UnsupportedImageError(f"JPEG XL images of {header.extra_channels} extra channels are not supported")
    try:
        values = jpegxl_decode(data, index=0 if header.animated else None)
    except (RuntimeError, ValueError, IndexError) as error:  # JpegxlError is a RuntimeError
        raise damaged(_NAME) from error
    warnings: tuple[AnswerWarning, ...] = (FIRST_FRAME,) if header.animated else ()
    if values.ndim == 3:  # an alpha channel is dropped
        values = values[..., :3] if values.shape[2] > 2 else values[..., 0]
    if values.dtype == np.uint8:
        return Picture(Image.fromarray(np.ascontiguousarray(values)), _NAME, warnings)
    pixels = scaled(values, 2**header.bits - 1)
    if values.ndim == 2:
        warnings = (*warnings, *warn_if_lost(values, pixels))
    return Picture(Image.fromarray(pixels), _NAME, warnings)


def _codestream_start(data: bytes) -> bytes:
    """Return the first bytes of the codestream, without its signature FF 0A."""
    if data.startswith(b"\xff\x0a"):
        return data[2 : 2 + _HEADER_BYTES]
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)
            return data[start + 2 : start + 2 + _HEADER_BYTES]
        if length < head:
            break
        at += length
    raise damaged(_NAME)


def _header(start: bytes) -> _Header:
    """Read SizeHeader and the first fields of ImageMetadata (18181-1, D.2 and D.3)."""
    bits = _Bits(start)
    width, height = _size(bits)
    animated, floating, depth, extra = False, False, 8, 0
    if not bits.take(1):  # not all fields have default values
        if bits.take(1):
            bits.take(3)  # the orientation, which the decoder applies
            if bits.take(1):
                _size(bits)
            if bits.take(1):
                _preview(bits)
            animated = bool(bits.take(1))
            if animated:
                bits.number(_TICKS)
                bits.number(_TICKS_DIVISOR)
                bits.number(_LOOPS)
                bits.take(1)
        floating = bool(bits.take(1))
        if not floating:
            depth = bits.number(_WHOLE_BITS)
            bits.take(1)
            extra = bits.number(_EXTRA_CHANNELS)
    return _Header(width, height, depth, floating, extra, animated)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else bits.number(_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.number(_SIDE)), height


def _preview(bits: _Bits) -> None:
    ways = _PREVIEW_EIGHTHS if bits.take(1) else _PREVIEW_SIDE
    bits.number(ways)
    if not bits.take(3):
        bits.number(ways)
