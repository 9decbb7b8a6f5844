"""Decoders for 12-bit and lossless JPEG and for RLE, based on imagecodecs; they are also pydicom plugins.

imagecodecs includes libjpeg-turbo 3, which decodes 12-bit and lossless JPEG (ITU-T T.81, processes 4 and 14). Pillow
can't decode these; the other decoders are under the GPL, or part of GDCM.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from imagecodecs import Jpeg8Error, jpeg8_decode, packbits_decode
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from app.errors import CorruptImageError, UnsupportedImageError
from app.imaging.headers import JpegFrame, jpeg2000_size, jpeg_frame

_OURS = "lightbox"
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
# The plugin for each transfer syntax. Without a choice, pydicom tries several, also on damaged data.
_PLUGINS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: _OURS,
    JPEGLossless: _OURS,
    JPEGLosslessSV1: _OURS,
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    RLELossless: _OURS,
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}
# pydicom requires this constant and `is_available` of a plugin module.
DECODER_DEPENDENCIES = dict.fromkeys(
    (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless), ("numpy", "imagecodecs")
)
_RLE_HEADER = 64
_RLE_PADDING = 2


def is_available(uid: str) -> bool:
    """Return whether this module decodes the transfer syntax `uid`."""
    return uid in DECODER_DEPENDENCIES


def plugin_for(syntax: UID) -> str:
    """Return the name of the pydicom plugin that decodes `syntax`; empty for uncompressed pixels.

    Raises:
        UnsupportedImageError: if there is none.
    """
    if syntax in _PLUGINS:
        return _PLUGINS[syntax]
    if syntax.is_private or syntax.is_encapsulated or not syntax.is_transfer_syntax:
        raise UnsupportedImageError("the compression of the DICOM image is not supported")
    return ""


def check_codestream(pixel_data: bytes, syntax: UID, index: int, frames: int, size: tuple[int, int]) -> None:
    """Check that the header of a compressed frame has the same `size` (width, height) as the DICOM header.

    Raises:
        CorruptImageError: if the sizes differ or the frame is missing.
    """
    if syntax not in _JPEG and syntax not in _JPEG_2000:
        return
    stream = get_frame(pixel_data, index, number_of_frames=frames)
    if syntax in _JPEG_2000:
        found = jpeg2000_size(stream)
    else:
        frame = jpeg_frame(stream)
        found = (frame.width, frame.height)
    if found != size:
        raise CorruptImageError(
            f"the DICOM header says {size[0]} x {size[1]} pixels, the frame {found[0]} x {found[1]}"
        )


def decode_jpeg(data: bytes, frame: JpegFrame) -> np.ndarray:
    """Decode a 12-bit or lossless JPEG with the header `frame` to `[H, W]` or `[H, W, 3]` RGB.

    The type is uint8 for up to 8 bits per sample, and uint16 for more.

    Raises:
        CorruptImageError: if the image is truncated or damaged.
        UnsupportedImageError: if it has neither one nor three components.
    """
    if frame.components not in (1, 3):
        raise UnsupportedImageError(
            f"JPEG images with {frame.components} components of {frame.precision} bits are not supported"
        )
    try:
        return jpeg8_decode(_complete(data))
    except (Jpeg8Error, ValueError) as error:
        raise CorruptImageError("the JPEG image can't be decoded: it is truncated or damaged") from error


def _complete(data: bytes) -> bytes:
    """Return `data` if its last scan is followed by an end-of-image marker.

    libjpeg only warns if the marker is missing, and fills the missing pixels with grey.
    """
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise ValueError("no end of image")
    return data


def _decode_jpeg_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    # Equal colour spaces keep libjpeg from converting; the photometric interpretation in the header applies.
    space: dict[str, Any] = {} if runner.samples_per_pixel == 1 else {"colorspace": "RGB", "outcolorspace": "RGB"}
    pixels = jpeg8_decode(_complete(source), **space)
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return bytearray(pixels.tobytes())


def _decode_rle_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """Decode RLE (DICOM PS3.5, annex G): one segment for each byte of a sample, the most significant first.

    Two bytes can encode 128, so the size of a segment is limited to that of the image: without a limit, an upload could
    expand 64 times.
    """
    area, depth = runner.rows * runner.columns, runner.bits_allocated // 8
    count, *offsets = struct.unpack("<16I", source[:_RLE_HEADER])
    if count != runner.samples_per_pixel * depth or count > len(offsets):
        raise ValueError(f"unexpected number of RLE segments: {count}")
    planes = np.empty((runner.samples_per_pixel, area, depth), np.uint8)
    for number, (start, end) in enumerate(zip(offsets[:count], [*offsets[1:count], len(source)], strict=True)):
        segment = packbits_decode(source[start:end], out=area + _RLE_PADDING)
        planes[number // depth, :, depth - 1 - number % depth] = np.frombuffer(segment, np.uint8, area)
    runner.set_option("planar_configuration", 1)
    return bytearray(planes.tobytes())


for _uid in DECODER_DEPENDENCIES:
    _function = "_decode_rle_frame" if _uid == RLELossless else "_decode_jpeg_frame"
    get_decoder(_uid).add_plugin(_OURS, (__name__, _function))
