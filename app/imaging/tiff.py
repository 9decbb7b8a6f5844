"""TIFF files (TIFF 6.0, and BigTIFF): their first page, bounded, and which decoder takes it.

Pillow reads the pages of 1, 2, 4 and 8 bits a sample; imagecodecs, by libtiff, those of any other number up to 16, and
what of BigTIFF is big-endian.
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
    """What the first page of a TIFF announces: `bits` of a sample, `samples` of a pixel; who decodes it."""

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    orientation: int
    for_pillow: bool


def first_tiff_page(data: bytes, max_pixels: int) -> tuple[bytes, bool, TiffPage]:
    """`data` with its first page's link to the next one cut, whether there is a next one, and that page.

    Raises:
        CorruptImageError: the directory is cut short, or its entries claim more bytes than the file could hold.
        ImageTooLargeError: a tile is larger than any image may be.
        UnsupportedImageError: its samples are no unsigned whole numbers, or of unequal depth.
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
    """A page that is not for Pillow: `[H, W]` or `[H, W, 3]`, 0 black, an alpha channel dropped, not turned yet.

    Raises:
        UnsupportedImageError: it is neither grey nor RGB.
        CorruptImageError: it is truncated or damaged.
    """
    colours = _COLOURS.get(page.photometric)
    if colours is None or not colours <= page.samples <= _MAX_SAMPLES:
        raise UnsupportedImageError(
            f"TIFF pixels of {page.samples} samples of {page.bits} bits with PhotometricInterpretation "
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
    """What the directory says of a page; `unread` tells that Pillow reads no file of its kind."""

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
    """The numbers that are read of a TIFF directory, by tag, and where its link to the next one lies."""
    head, row, number = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 2)
    size = struct.calcsize(f"{order}{row}")
    if start + number > len(data):
        raise damaged("TIFF")
    (count,) = struct.unpack_from(f"{order}{head}", data, start)
    link = start + number + size * count
    if link > len(data):
        raise damaged("TIFF")
    rows = [struct.unpack_from(f"{order}{row}", data, start + number + size * place) for place in range(count)]
    # Entries may overlap, and each is read into memory of its own.
    if sum(_SIZES.get(kind, 1) * amount for _, kind, amount, _ in rows) > 2 * len(data) + 1024:
        raise damaged("TIFF")
    read = {tag: _values(data, order, *entry) for tag, *entry in rows if tag in _READ}
    return {tag: values for tag, values in read.items() if values}, link


def _values(data: bytes, order: str, kind: int, amount: int, value: bytes) -> list[int]:
    """The first whole numbers of an entry; `value` holds them, or where they lie."""
    letter, wanted = _LETTERS.get(kind), min(amount, _MAX_SAMPLES)
    if letter is None or wanted == 0:
        return []
    source, at = value, 0
    if _SIZES[kind] * amount > len(value):
        source, at = data, int.from_bytes(value, "little" if order == "<" else "big")
    if at + _SIZES[kind] * wanted > len(source):
        raise damaged("TIFF")
    return list(struct.unpack_from(f"{order}{wanted}{letter}", source, at))
