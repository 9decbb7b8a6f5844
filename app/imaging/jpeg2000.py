"""JPEG 2000 (ITU-T T.800): the main header of codestreams, including DICOM frames, and a decoder for files."""

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
# The exceptions of Pillow and imagecodecs for damaged data. They have no common base class; Jpeg2kError is a
# RuntimeError.
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
    """The main header of the codestream at byte `start` (T.800, A.5.1 and A.6.1).

    `precision` is the largest number of bits per sample. `transformed` tells whether the encoder applied the component
    transformation to the first three components; the decoder reverts it.
    """

    start: int
    width: int
    height: int
    components: int
    precision: int
    signed: bool
    transformed: bool


def codestream(data: bytes, start: int = 0) -> Codestream:
    """Read the main header of the codestream that begins within 4096 bytes after `start`.

    Raises:
        CorruptImageError: if there is none.
    """
    start = data.find(_START, start, start + _MAX_START)
    if start < 0 or len(data) < start + 42:
        raise CorruptImageError("the JPEG 2000 image can't be decoded: it has no SIZ segment")
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
    """Return whether the coding style default, a segment after `at`, specifies the component transformation."""
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
    """Decode a JPEG 2000 file: up to 8 bits per sample by Pillow, more by imagecodecs.

    Raises:
        UnsupportedImageError: if samples are signed or have more than 16 bits, or if there are more than 4 components.
        ImageTooLargeError: if the header declares more than `max_pixels` pixels.
        CorruptImageError: if the image is truncated or damaged.
    """
    found = codestream(data, _codestream_box(data))
    check_size(found.width, found.height, max_pixels)
    if found.components > 4 or found.signed or found.precision > 16:
        raise UnsupportedImageError(
            f"JPEG 2000 images of {found.components} components of {found.precision} bits"
            f"{', signed,' if found.signed else ''} are not supported; send up to 4 of up to 16 bits, unsigned"
        )
    # OpenJPEG decodes truncated files without an error.
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
    """Return the offset of the codestream: 0, or the contents of its box (T.800, annex I)."""
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
