"""Headers of image files: identifies the format, and limits the cost of decoding before it starts.

Decoders trust their input: a few bytes can declare a canvas of gigabytes, millions of metadata entries or thousands of
passes. This module checks such declarations first, in a bounded number of steps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from app.errors import CorruptImageError, ImageTooLargeError, NoImageError, UnsupportedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "DICOM")

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
# Value representations of the possible first elements of a data set (DICOM PS3.6, groups 0002 and 0008).
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH")

# A progressive JPEG has about ten scans, and each is a pass over all pixels; thousands are an attack.
_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000
_MAX_FILL = 1024
_MAX_GIF_BLOCKS = 500_000
_MAX_GIF_SECTIONS = 1_000
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TILE_SIDES = (322, 323)
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file: its bytes, and its format, one of `FORMATS`."""

    data: bytes
    format: str


def identify(data: bytes) -> EncodedImage:
    """Identify the format of an image file by its first bytes. The rest of the file is not checked.

    Raises:
        NoImageError: if `data` is empty.
        UnsupportedImageError: if the first bytes are not those of a supported format.
    """
    if not data:
        raise NoImageError("the request contains no image: the file is empty")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError(f"the file is not an image of a supported format; send one of {', '.join(FORMATS)}")
    return EncodedImage(data, name)


def sniff(data: bytes) -> str | None:
    """Return the image format of the first bytes, one of `FORMATS`, or None."""
    # DICOM comes first: its preamble of 128 bytes may be a valid TIFF header (DICOM PS3.10, 7.1).
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    named = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    return named or ("DICOM" if _is_bare_dicom(data[:8]) else None)


def _is_bare_dicom(start: bytes) -> bool:
    """Return whether `start` begins an element of group 0002 or 0008, as in a DICOM file without preamble."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", start)
        if group in (0x0002, 0x0008) and element < 0x0100:
            return start[4:6] in _FIRST_VRS or (order == "<" and length <= 256)
    return False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Check the size of an image, in pixels.

    Raises:
        CorruptImageError: if the width or the height is less than 1.
        ImageTooLargeError: if the image has more than `max_pixels` pixels.
    """
    if width < 1 or height < 1:
        raise CorruptImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from the header of the first chunk (RFC 9649, section 2)."""
    header = data[20:30].ljust(10, b"\0")
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """The frame header of a JPEG (ITU-T T.81, B.2.2): `marker` is the process, `precision` the bits per sample."""

    marker: int
    precision: int
    height: int
    width: int
    components: int

    @property
    def lossless(self) -> bool:
        return self.marker == 0xC3


def jpeg_frame(data: bytes) -> JpegFrame:
    """Read the frame header of a JPEG or JPEG-LS stream.

    Raises:
        CorruptImageError: if there is none before the first scan, or if there are too many segments or scans.
    """
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise CorruptImageError(f"the JPEG image has more than {_MAX_SCANS} scans")
    frame, at = None, 2
    for _ in range(_MAX_SEGMENTS):
        at = _marker(data, at)
        if at + 4 > len(data) or data[at + 1] == 0xDA:
            break
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # stuffing and restart markers have no segment
            at += 2
            continue
        if _starts_frame(marker) and frame is None and at + 10 <= len(data):
            frame = JpegFrame(marker, *struct.unpack(">BHHB", data[at + 4 : at + 10]))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    else:
        raise CorruptImageError(f"the JPEG image has more than {_MAX_SEGMENTS} segments before its first scan")
    if frame is None:
        raise CorruptImageError("the JPEG image can't be decoded: it has no frame header")
    return frame


def _marker(data: bytes, at: int) -> int:
    """Return the offset of the next marker, after its fill bytes; the length of `data` if there is none."""
    at = data.find(b"\xff", at)
    fill = data[at : at + _MAX_FILL]
    return at + len(fill) - len(fill.lstrip(b"\xff")) - 1 if at >= 0 else len(data)


def _starts_frame(marker: int) -> bool:
    # SOF0 to SOF15, except for DHT, JPG and DAC, which are in the same range; F7 is JPEG-LS.
    return marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG 2000 codestream from its SIZ segment (ITU-T T.800, A.5.1).

    Raises:
        CorruptImageError: if the codestream does not start with one.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 24:
        raise CorruptImageError("the JPEG 2000 image can't be decoded: it has no SIZ segment")
    right, bottom, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
    return right - left, bottom - top


def first_gif_frame(data: bytes) -> tuple[bytes, bool]:
    """Return the GIF in `data` with its first frame only, and whether it has more (GIF 89a, sections 17 to 27).

    Comments before the frame are dropped, because Pillow joins their blocks in quadratic time.

    Raises:
        CorruptImageError: if the first frame is incomplete, or if there are too many blocks.
    """
    if len(data) < 13:
        raise _damaged("GIF")
    at = 13 + _gif_palette(data[10])
    kept, found = [data[:at]], False
    for _ in range(_MAX_GIF_SECTIONS):
        kind = data[at : at + 1]
        if kind == b"\x21":
            end = _after_gif_blocks(data, at + 2)
            if not found and data[at + 1 : at + 2] == b"\xf9":  # graphic control extension: the transparent colour
                kept.append(data[at:end])
        elif kind == b"\x2c" and not found and at + 10 < len(data):
            end = _after_gif_blocks(data, at + 11 + _gif_palette(data[at + 9]))
            kept.append(data[at:end])
            found = True
        else:
            break
        at = end
    if not found:
        raise _damaged("GIF")
    return b"".join(kept) + b"\x3b", kind == b"\x2c"


def _damaged(name: str) -> CorruptImageError:
    return CorruptImageError(f"the {name} image can't be decoded: it is truncated or damaged")


def _gif_palette(flags: int) -> int:
    """Return the size of the palette that `flags` declare, in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    """Return the end of the chain of sub-blocks at `at`; the length of `data` if it is truncated."""
    for _ in range(_MAX_GIF_BLOCKS):
        if at >= len(data) or data[at] == 0:
            return min(at + 1, len(data))
        at += 1 + data[at]
    raise _damaged("GIF")


def first_tiff_page(data: bytes, max_pixels: int) -> tuple[bytes, bool]:
    """Return the TIFF in `data` with its first page only, and whether it has more (TIFF 6.0, section 2).

    Raises:
        CorruptImageError: if the directory is truncated, or if its entries declare more bytes than the file has.
        ImageTooLargeError: if a tile has more pixels than an image may have.
    """
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data.ljust(8, b"\0"), 4)
    entries = _directory(data, order, start)
    tile = 1
    for tag in _TILE_SIDES:
        kind, _, value = entries.get(tag, (3, 1, b"\1\0\0\0" if order == "<" else b"\0\1\0\0"))
        tile *= struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", value)[0]
    if tile > max(max_pixels, 1024 * 1024):
        raise ImageTooLargeError(f"the image has tiles of {tile} pixels; the limit is {max_pixels}")
    link = start + 2 + 12 * struct.unpack_from(f"{order}H", data, start)[0]
    if data[link : link + 4].strip(b"\0") == b"":
        return data, False
    return data[:link] + b"\0\0\0\0" + data[link + 4 :], True


def _directory(data: bytes, order: str, start: int) -> dict[int, tuple[int, int, bytes]]:
    """Read a TIFF directory: type, count and the four bytes of value or offset, by tag."""
    if start + 2 > len(data):
        raise _damaged("TIFF")
    (count,) = struct.unpack_from(f"{order}H", data, start)
    if start + 2 + 12 * count > len(data):
        raise _damaged("TIFF")
    rows = [struct.unpack_from(f"{order}HHI4s", data, start + 2 + 12 * row) for row in range(count)]
    # Entries can overlap, and Pillow reads each into its own memory.
    if sum(_TIFF_SIZES.get(kind, 1) * number for _, kind, number, _ in rows) > 2 * len(data) + 1024:
        raise _damaged("TIFF")
    return {tag: (kind, number, value) for tag, kind, number, value in rows}


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation, 1..8, in an EXIF block; None if there is none or the block is malformed.

    All other tags are ignored: malformed metadata must not make an image unusable.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, at)
        if tag == _EXIF_ORIENTATION:
            return value if kind == 3 and 1 <= value <= 8 else None
    return None
