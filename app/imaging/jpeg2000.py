"""JPEG 2000 (ITU-T T.800): what a codestream announces, also as a frame of a DICOM object, and files of it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from imagecodecs import jpeg2k_decode
from PIL import Image

from app.errors import CorruptImageError, UnsupportedImageError
from app.imaging.contrast import scaled, warn_if_lost
from app.imaging.headers import check_size, damaged
from app.imaging.picture import Picture

_NAME = "JPEG 2000"
_START, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"
_COD, _SOT = 0xFF52, 0xFF90
_MAX_BOXES = 1000
_MAX_SEGMENTS = 1000
_MAX_START = 4096
# Pillow and imagecodecs, whose Jpeg2kError is a RuntimeError, document no common root.
_DAMAGE = (
    RuntimeError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Codestream:
    """The main header of a codestream that begins at byte `start` (T.800, A.5.1 and A.6.1).

    `precision` is in bits a sample, the largest of all components; `transformed` says that the first three components
    were turned into others before they were coded: a decoder gives the original ones back.
    """

    start: int
    width: int
    height: int
    components: int
    precision: int
    signed: bool
    transformed: bool


def codestream(data: bytes, start: int = 0) -> Codestream:
    """The main header of the codestream that begins within 4096 bytes of `start`.

    Raises:
        CorruptImageError: there is none.
    """
    start = data.find(_START, start, start + _MAX_START)
    if start < 0 or len(data) < start + 42:
        raise CorruptImageError("the JPEG 2000 image can't be decoded: it has no size")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    if not depths:
        raise CorruptImageError("the JPEG 2000 image can't be decoded: it has no components")
    return Codestream(
        start=start,
        width=right - left,
        height=bottom - top,
        components=components,
        precision=max((depth & 0x7F) + 1 for depth in depths),
        signed=any(depth & 0x80 for depth in depths),
        transformed=_is_transformed(data, start + 2),
    )


def _is_transformed(data: bytes, at: int) -> bool:
    """Whether the coding style default, one of the segments from `at` on, names a component transformation."""
    for _ in range(_MAX_SEGMENTS):
        if at + 9 > len(data):
            return False
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _COD:
            return data[at + 8] == 1
        if marker == _SOT:
            return False
        at += 2 + length
    return False


def decode_jpeg2000(data: bytes, max_pixels: int) -> Picture:
    """A JPEG 2000 image file, up to 8 bits a sample by Pillow, more by imagecodecs.

    Raises:
        UnsupportedImageError: its samples are signed, have more than 16 bits, or it has more than four components.
        ImageTooLargeError: it announces more than `max_pixels` pixels.
        CorruptImageError: it is truncated or damaged.
    """
    found = codestream(data, _codestream_box(data))
    check_size(found.width, found.height, max_pixels)
    if found.components > 4 or found.signed or found.precision > 16:
        raise UnsupportedImageError(
            f"JPEG 2000 images of {found.components} components of {found.precision} bits"
            f"{', signed,' if found.signed else ''} are not supported; send up to 4 of up to 16 bits, unsigned"
        )
    # OpenJPEG shows what there is of a file that was cut.
    if _END not in data[len(data.rstrip(b"\0")) - 64 :]:
        raise damaged(_NAME)
    try:
        if found.precision > 8:
            return _deep(jpeg2k_decode(data), found)
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as image:
            if image.size != (found.width, found.height):
                raise damaged(_NAME)
            return Picture(image.convert("L" if image.mode in ("L", "LA") else "RGB"), _NAME)
    except NotImplementedError as error:
        raise UnsupportedImageError(
            "JPEG 2000 images of unlike components and over 8 bits are not supported"
        ) from error
    except _DAMAGE as error:
        raise damaged(_NAME) from error


def _deep(values: np.ndarray, found: Codestream) -> Picture:
    if values.shape[:2] != (found.height, found.width):
        raise damaged(_NAME)
    if values.ndim == 3:  # an alpha channel is dropped
        values = values[..., :3] if found.components > 2 else values[..., 0]
    pixels = scaled(values, 2**found.precision - 1)
    return Picture(Image.fromarray(pixels), _NAME, warn_if_lost(values, pixels) if values.ndim == 2 else ())


def _codestream_box(data: bytes) -> int:
    """Where the codestream begins: at once, or in the first box that holds one (T.800, annex I)."""
    if data.startswith(_START):
        return 0
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        if kind == b"jp2c":
            if length and at + length > len(data):
                raise damaged(_NAME)
            return at + head
        if length < head:
            break
        at += length
    raise damaged(_NAME)
