"""TIFF files (TIFF 6.0 and BigTIFF): the directory of the first page, and the choice of its decoder.

Pillow decodes 1, 2, 4 and 8 bits per sample. imagecodecs (libtiff) decodes other depths up to 16 bits, and big-endian
BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from imagecodecs import TiffError, tiff_decode

from app.errors import ImageTooLargeError, UnsupportedImageError
from app.imaging.headers import damaged

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_TILE_SIDES, _SAMPLE_FORMAT = (322, 323), 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}
_READ = (_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, *_TILE_SIDES, _SAMPLE_FORMAT)
_UNSIGNED, _UNDEFINED = 1, 4
_KINDS = {2: "signed whole", 3: "floating-point", 5: "complex", 6: "complex"}
_MAX_SAMPLES = 5
_PILLOW_BITS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class TiffPage:
    """The first page of a TIFF: `bits` per sample, `samples` per pixel, and whether Pillow decodes it."""

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    orientation: int
    for_pillow: bool


def first_tiff_page(data: bytes, max_pixels: int) -> tuple[bytes, bool, TiffPage]:
    """Return the TIFF in `data` without the link to its second page, whether it has one, and the first page.

    Raises:
        CorruptImageError: if the directory is truncated, or if its entries exceed the size of the file.
        ImageTooLargeError: if a tile is larger than the largest image.
        UnsupportedImageError: if samples are not unsigned integers, or differ in depth.
    """
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data.ljust(16, b"\0"), 8 if big else 4)[0]
    entries, link = _directory(data, order, start, big=big)
    tile = 1
    for tag in _TILE_SIDES:
        tile *= entries.get(tag, [1])[0]
    if tile > max(max_pixels, 1024 * 1024):
        raise ImageTooLargeError(f"the image has tiles of {tile} pixels; the limit is {max_pixels}")
    page = _page(entries, unread=big and order == ">")
    size = 8 if big else 4
    if data[link : link + size].strip(b"\0") == b"":
        return data, False, page
    return data[:link] + b"\0" * size + data[link + size :], True, page


def decode_page(data: bytes, page: TiffPage) -> np.ndarray:
    """Decode a page by libtiff to `[H, W]` or `[H, W, 3]`, 0 black, without alpha channel, and not rotated yet.

    Raises:
        UnsupportedImageError: if the page is neither grey nor RGB.
        CorruptImageError: if it is truncated or damaged.
    """
    colours = _COLOURS.get(page.photometric)
    if colours is None or not colours <= page.samples <= _MAX_SAMPLES:
        raise UnsupportedImageError(
            f"TIFF pixels with {page.samples} samples of {page.bits} bits with PhotometricInterpretation "
            f"{page.photometric} are not supported; send grey or RGB"
        )
    try:
        values = tiff_decode(data)
    except (TiffError, ValueError, IndexError, MemoryError) as error:
        raise damaged("TIFF") from error
    shape = (page.height, page.width)
    if values.ndim == 3 and values.shape == (page.samples, *shape):
        values = np.moveaxis(values, 0, -1)  # planar configuration 2
    values = values.view(np.uint8) if values.dtype == np.bool_ else values
    if values.shape not in (shape, (*shape, page.samples)) or values.dtype.kind != "u":
        raise damaged("TIFF")
    if values.ndim == 3:
        values = values[..., :3] if colours == 3 else values[..., 0]
    return 2**page.bits - 1 - values if page.photometric == _WHITE_IS_ZERO else values


def _page(entries: dict[int, list[int]], *, unread: bool) -> TiffPage:
    """Read the description of a page; `unread` tells whether Pillow can't decode such files."""

    def first(tag: int, default: int) -> int:
        return entries.get(tag, [default])[0]

    bits, kinds = entries.get(_BITS, [1]), entries.get(_SAMPLE_FORMAT, [_UNSIGNED])
    if any(kind not in (_UNSIGNED, _UNDEFINED) for kind in kinds):
        kind = next(_KINDS.get(kind, "other") for kind in kinds if kind not in (_UNSIGNED, _UNDEFINED))
        raise UnsupportedImageError(
            f"TIFF pixels of {kind} numbers of {bits[0]} bits (SampleFormat) have no known range; "
            "send unsigned whole numbers of up to 16 bits"
        )
    if max(bits) > 16:
        raise UnsupportedImageError(f"TIFF pixels of {max(bits)} bits have no known range; send up to 16 bits")
    if len(set(bits)) > 1:
        raise UnsupportedImageError("TIFF pixels whose samples have different numbers of bits are not supported")
    return TiffPage(
        width=first(_WIDTH, 0),
        height=first(_LENGTH, 0),
        samples=first(_SAMPLES, 1),
        bits=bits[0],
        photometric=first(_PHOTOMETRIC, _BLACK_IS_ZERO),
        orientation=first(_ORIENTATION, 1),
        for_pillow=bits[0] in _PILLOW_BITS and not unread,
    )


def _directory(data: bytes, order: str, start: int, *, big: bool) -> tuple[dict[int, list[int]], int]:
    """Return the values of the tags in `_READ`, and the offset of the link to the next directory."""
    head, row, number = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 2)
    size = struct.calcsize(f"{order}{row}")
    if start + number > len(data):
        raise damaged("TIFF")
    (count,) = struct.unpack_from(f"{order}{head}", data, start)
    link = start + number + size * count
    if link > len(data):
        raise damaged("TIFF")
    rows = [struct.unpack_from(f"{order}{row}", data, start + number + size * place) for place in range(count)]
    # Entries can overlap, and a decoder copies each of them.
    if sum(_SIZES.get(kind, 1) * amount for _, kind, amount, _ in rows) > 2 * len(data) + 1024:
        raise damaged("TIFF")
    read = {tag: _values(data, order, *entry) for tag, *entry in rows if tag in _READ}
    return {tag: values for tag, values in read.items() if values}, link


def _values(data: bytes, order: str, kind: int, amount: int, value: bytes) -> list[int]:
    """Return the first integers of an entry; `value` contains them or their offset."""
    letter, wanted = _LETTERS.get(kind), min(amount, _MAX_SAMPLES)
    if letter is None or wanted == 0:
        return []
    source, at = value, 0
    if _SIZES[kind] * amount > len(value):
        source, at = data, int.from_bytes(value, "little" if order == "<" else "big")
    if at + _SIZES[kind] * wanted > len(source):
        raise damaged("TIFF")
    return list(struct.unpack_from(f"{order}{wanted}{letter}", source, at))
