"""JPEG streams (ITU-T T.81): their headers, and a decoder for those that Pillow can't decode.

imagecodecs includes libjpeg-turbo 3, which decodes 12-bit and lossless JPEG (processes 4 and 14). The other decoders
are under the GPL, or part of GDCM.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from imagecodecs import Jpeg8Error, jpeg8_decode

from app.errors import CorruptImageError, UnsupportedImageError

# A progressive JPEG has about ten scans, and each is a pass over all pixels; thousands are an attack.
_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000
_MAX_FILL = 1024
_EXIF_ORIENTATION = 0x0112
_SCAN, _END, _APP0, _APP1, _APP14 = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE
# In a scan, FF before a stuffing byte, a restart (T.81, B.1.1.5) or a byte below 80 (JPEG-LS, T.87) is no marker.
_MARKER_AFTER_SCAN = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """The frame header of a JPEG (ITU-T T.81, B.2.2): `marker` is the process, `precision` the bits per sample.

    `exif` is the EXIF block, or empty. `colour` is `RGB` or `YBR` if the stream specifies it, else empty. `complete`
    tells whether the stream has an end-of-image marker; data after that marker do not belong to the image.
    """

    marker: int
    precision: int
    height: int
    width: int
    components: int
    exif: bytes = b""
    colour: str = ""
    complete: bool = False

    @property
    def lossless(self) -> bool:
        return self.marker == 0xC3


def jpeg_frame(data: bytes) -> JpegFrame:
    """Read the frame header of a JPEG or JPEG-LS stream, and its other segments up to the end of the image.

    Raises:
        CorruptImageError: if there is none before the first scan, or if there are too many segments or scans.
    """
    header, kind, exif, complete = b"", 0, b"", False
    said: dict[str, str] = {}
    for marker, body in _segments(data):
        if _starts_frame(marker) and not header and len(body) >= 6:
            header, kind = body, marker
        elif marker == _SCAN and not header:
            break
        elif marker == _END:
            complete = True
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == _APP0 and body.startswith(b"JFIF"):
            said["JFIF"] = "YBR"
        elif marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            said["Adobe"] = "YBR" if body[11] else "RGB"
    if not header:
        raise CorruptImageError("the JPEG image can't be decoded: it has no frame header")
    precision, height, width, components = struct.unpack(">BHHB", header[:6])
    # As in libjpeg (jdapimin.c), except that component names take precedence over JFIF.
    names = "RGB" if header[6:15:3].upper() == b"RGB" else ""
    colour = said.get("Adobe") or names or said.get("JFIF", "")
    return JpegFrame(kind, precision, height, width, components, exif, colour if components == 3 else "", complete)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the body of each segment up to the end of the image; skip the coded data of scans.

    Raises:
        CorruptImageError: if there are too many segments or scans.
    """
    at, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        at = _marker(data, at)
        if at + 2 > len(data):
            return
        marker = data[at + 1]
        if marker == _END:
            yield marker, b""
            return
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # stuffing and restart markers have no segment
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end]
        at = end
        if marker == _SCAN:
            scans += 1
            if scans > _MAX_SCANS:
                raise CorruptImageError(f"the JPEG image has more than {_MAX_SCANS} scans")
            found = _MARKER_AFTER_SCAN.search(data, at)
            at = found.start() if found else len(data)
    raise CorruptImageError(f"the JPEG image has more than {_MAX_SEGMENTS} segments")


def _marker(data: bytes, at: int) -> int:
    """Return the offset of the next marker, after its fill bytes; the length of `data` if there is none."""
    at = data.find(b"\xff", at)
    fill = data[at : at + _MAX_FILL]
    return at + len(fill) - len(fill.lstrip(b"\xff")) - 1 if at >= 0 else len(data)


def _starts_frame(marker: int) -> bool:
    # SOF0 to SOF15, except for DHT, JPG and DAC, which are in the same range; F7 is JPEG-LS.
    return marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))


def decode_jpeg(data: bytes, frame: JpegFrame, colour: str = "") -> np.ndarray:
    """Decode a JPEG with the header `frame` to `[H, W]` or `[H, W, 3]` RGB.

    The type is uint8 for up to 8 bits per sample, and uint16 for more. `colour` overrides the colour space that the
    stream specifies: `YBR` is converted, `RGB` is not.

    Raises:
        CorruptImageError: if the image is truncated or damaged.
        UnsupportedImageError: if it has neither one nor three components.
    """
    if frame.components not in (1, 3):
        raise UnsupportedImageError(
            f"JPEG images with {frame.components} components of {frame.precision} bits are not supported"
        )
    spaces = {"RGB": "RGB", "YBR": "YCBCR"} if frame.components == 3 else {}
    said: dict[str, Any] = {"colorspace": spaces[colour], "outcolorspace": "RGB"} if colour in spaces else {}
    # libjpeg only warns if the marker is missing, and fills the missing pixels with grey.
    if not frame.complete:
        raise _damaged()
    try:
        return jpeg8_decode(data, **said)
    except (Jpeg8Error, ValueError) as error:
        raise _damaged() from error


def _damaged() -> CorruptImageError:
    return CorruptImageError("the JPEG image can't be decoded: it is truncated or damaged")


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
