"""Headers of image files: identifies the format, and limits the cost of decoding before it starts.

Decoders trust their input: a few bytes can declare a canvas of gigabytes, millions of metadata entries or thousands of
passes. This module checks such declarations first, in a bounded number of steps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagecodecs import JPEG2K, JPEGXL
from PIL import features

from app.errors import CorruptImageError, ImageTooLargeError, NoImageError, UnsupportedImageError

# Formats whose decoders are optional parts of Pillow and imagecodecs.
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
# Value representations of the possible first elements of a data set (DICOM PS3.6, groups 0002 and 0008).
_FIRST_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH")

_MAX_BRANDS = 128
_MAX_GIF_BLOCKS = 500_000
_MAX_GIF_SECTIONS = 1_000


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
    if named is None and _is_avif(data[:_MAX_BRANDS]):
        named = "AVIF"
    if named is None and _is_bare_dicom(data[:8]):
        named = "DICOM"
    return named if named in FORMATS else None


def _is_avif(start: bytes) -> bool:
    """Return whether a file type box (ISO/IEC 14496-12) names AVIF as the major or a compatible brand."""
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : int.from_bytes(start[:4], "big")]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in (0, *range(8, len(brands), 4)))


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


def first_gif_frame(data: bytes) -> tuple[bytes, bool]:
    """Return the GIF in `data` with its first frame only, and whether it has more (GIF 89a, sections 17 to 27).

    Comments before the frame are dropped, because Pillow joins their blocks in quadratic time.

    Raises:
        CorruptImageError: if the first frame is incomplete, or if there are too many blocks.
    """
    if len(data) < 13:
        raise damaged("GIF")
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
        raise damaged("GIF")
    return b"".join(kept) + b"\x3b", kind == b"\x2c"


def damaged(name: str) -> CorruptImageError:
    """Return the error for an image of the format `name` that its decoder can't decode."""
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
    raise damaged("GIF")
