"""What an encoded image announces before any of it is decoded: its kind, its size, and what its structure would cost.

A decoder trusts its input: a few bytes may promise a canvas of gigabytes, a table of millions of notes, or thousands
of passes. Each such promise is read here first, in a number of steps that is bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagecodecs import JPEG2K, JPEGXL
from PIL import features

from app.errors import CorruptImageError, ImageTooLargeError, NoImageError, UnsupportedImageError

# What is read here: the last three only where the installed libraries were built with their decoders.
_OPTIONAL = {
    "AVIF": features.check("avif"),
    "JPEG XL": bool(JPEGXL.available),
    "JPEG 2000": features.check("jpg_2000") and bool(JPEG2K.available),
}
FORMATS = (
    *("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "DICOM"),
    *(name for name, available in _OPTIONAL.items() if available),
)

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00\x08\x00\x00\x00": "TIFF",  # BigTIFF
    b"MM\x00+\x00\x08\x00\x00": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "JPEG XL",
}
# Value representations that the first element of a data set can have (DICOM PS3.6: groups 0002 and 0008).
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH")

_MAX_BRANDS = 128
_MAX_GIF_BLOCKS = 500_000
_MAX_GIF_SECTIONS = 1_000


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
    if named is None and _is_avif(data[:_MAX_BRANDS]):
        named = "AVIF"
    if named is None and _is_bare_dicom(data[:8]):
        named = "DICOM"
    return named if named in FORMATS else None


def _is_avif(start: bytes) -> bool:
    """Whether a file type box of ISO/IEC 14496-12 names AVIF, first or among the brands that it is compatible with."""
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : int.from_bytes(start[:4], "big")]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in (0, *range(8, len(brands), 4)))


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


def first_gif_frame(data: bytes) -> tuple[bytes, bool]:
    """`data` cut after the first picture, and whether more follow (GIF 89a, sections 17 to 27).

    Comments before the picture are left out: Pillow joins them block by block, which costs their square.

    Raises:
        CorruptImageError: it ends before a picture does, or has an absurd number of blocks.
    """
    if len(data) < 13:
        raise damaged("GIF")
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
        raise damaged("GIF")
    return b"".join(kept) + b"\x3b", kind == b"\x2c"


def damaged(name: str) -> CorruptImageError:
    """The error for an image of the format `name` whose decoder found it damaged."""
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
    raise damaged("GIF")
