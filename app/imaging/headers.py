"""What an encoded image announces before any of it is decoded: its kind, its size, and what its structure would cost.

A decoder trusts its input: a few bytes may promise a canvas of gigabytes, a table of millions of notes, or thousands
of passes. Each such promise is read here first, in a number of steps that is bounded.
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
# Value representations that the first element of a data set can have (DICOM PS3.6: groups 0002 and 0008).
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH")

# A progressive JPEG has about ten scans, each of which costs a pass over all pixels; thousands are an attack.
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
    """An image file: all its bytes, and its format, one of `FORMATS`."""

    data: bytes
    format: str


def identify(data: bytes) -> EncodedImage:
    """`data` as an image file of the format that its first bytes announce; whether it is intact is not known yet.

    Raises:
        NoImageError: `data` is empty.
        UnsupportedImageError: the first bytes announce no supported format.
    """
    if not data:
        raise NoImageError("the request holds no image: it is empty")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError(f"not an image of a supported format; send one of {', '.join(FORMATS)}")
    return EncodedImage(data, name)


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes announce (one of `FORMATS`), or None."""
    # First, because the 128 bytes before it may hold anything, a TIFF's magic too (DICOM PS3.10, 7.1).
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    named = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    return named or ("DICOM" if _is_bare_dicom(data[:8]) else None)


def _is_bare_dicom(start: bytes) -> bool:
    """Whether `start` is the first element of group 0002 or 0008, as a file without its preamble begins."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", start)
        if group in (0x0002, 0x0008) and element < 0x0100:
            return start[4:6] in _FIRST_VRS or (order == "<" and length <= 256)
    return False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels, or with too many.

    Raises:
        CorruptImageError: a side is shorter than a pixel.
        ImageTooLargeError: more than `max_pixels`.
    """
    if width < 1 or height < 1:
        raise CorruptImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk's header (RFC 9649, section 2)."""
    header = data[20:30].ljust(10, b"\0")
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """A JPEG's frame header (ITU-T T.81, B.2.2): `marker` tells the process, `precision` is in bits a sample."""

    marker: int
    precision: int
    height: int
    width: int
    components: int

    @property
    def lossless(self) -> bool:
        return self.marker == 0xC3


def jpeg_frame(data: bytes) -> JpegFrame:
    """The frame header of a JPEG or JPEG-LS stream.

    Raises:
        CorruptImageError: it has none before its first scan, or an absurd number of segments or scans.
    """
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise CorruptImageError(f"the JPEG image has more than {_MAX_SCANS} scans")
    frame, at = None, 2
    for _ in range(_MAX_SEGMENTS):
        at = _marker(data, at)
        if at + 4 > len(data) or data[at + 1] == 0xDA:
            break
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no segment: stuffing and restarts
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
    """Where the next marker begins, its fill bytes left behind; the data's end where there is none."""
    at = data.find(b"\xff", at)
    fill = data[at : at + _MAX_FILL]
    return at + len(fill) - len(fill.lstrip(b"\xff")) - 1 if at >= 0 else len(data)


def _starts_frame(marker: int) -> bool:
    # SOF0 to SOF15 without the tables DHT, JPG and DAC that lie between them; F7 is JPEG-LS.
    return marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Width and height of a JPEG 2000 codestream by its SIZ segment (ITU-T T.800, A.5.1).

    Raises:
        CorruptImageError: it does not begin with one.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 24:
        raise CorruptImageError("the JPEG 2000 image can't be decoded: it has no size")
    right, bottom, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
    return right - left, bottom - top


def first_gif_frame(data: bytes) -> tuple[bytes, bool]:
    """`data` cut after the first picture, and whether more follow (GIF 89a, sections 17 to 27).

    Comments before the picture are left out: Pillow joins them block by block, which costs their square.

    Raises:
        CorruptImageError: it ends before a picture does, or has an absurd number of blocks.
    """
    if len(data) < 13:
        raise _damaged("GIF")
    at = 13 + _gif_palette(data[10])
    kept, found = [data[:at]], False
    for _ in range(_MAX_GIF_SECTIONS):
        kind = data[at : at + 1]
        if kind == b"\x21":
            end = _after_gif_blocks(data, at + 2)
            if not found and data[at + 1 : at + 2] == b"\xf9":  # graphic control: the transparent colour
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
    """Bytes of the palette that `flags` announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    """Where the chain of sub-blocks that begins at `at` has ended; the data's end where it is cut short."""
    for _ in range(_MAX_GIF_BLOCKS):
        if at >= len(data) or data[at] == 0:
            return min(at + 1, len(data))
        at += 1 + data[at]
    raise _damaged("GIF")


def first_tiff_page(data: bytes, max_pixels: int) -> tuple[bytes, bool]:
    """`data` with its first page's link to the next one cut, and whether there is a next one (TIFF 6.0, section 2).

    Raises:
        CorruptImageError: the directory is cut short, or its entries claim more bytes than the file could hold.
        ImageTooLargeError: a tile is larger than any image may be.
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
    """A TIFF directory: type, count and the four bytes of value or offset, by tag."""
    if start + 2 > len(data):
        raise _damaged("TIFF")
    (count,) = struct.unpack_from(f"{order}H", data, start)
    if start + 2 + 12 * count > len(data):
        raise _damaged("TIFF")
    rows = [struct.unpack_from(f"{order}HHI4s", data, start + 2 + 12 * row) for row in range(count)]
    # Entries may overlap, and each is read into memory of its own.
    if sum(_TIFF_SIZES.get(kind, 1) * number for _, kind, number, _ in rows) > 2 * len(data) + 1024:
        raise _damaged("TIFF")
    return {tag: (kind, number, value) for tag, kind, number, value in rows}


def exif_orientation(exif: bytes) -> int | None:
    """The orientation 1..8 that an EXIF block gives; None where it gives none, or can't be read.

    A film is no worse for a camera's odd note, and none but this one is read.
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
