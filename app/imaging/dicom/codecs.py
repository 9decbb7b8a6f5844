"""Compressed frames: their decoders, what they say of themselves, and JPEG and bounded RLE as pydicom plugins."""

from __future__ import annotations

import struct

import numpy as np
from imagecodecs import packbits_decode
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
from app.imaging.jpeg import decode_jpeg, jpeg_frame
from app.imaging.jpeg2000 import codestream

_OURS = "lightbox"
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
_JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
# Of several plugins for a syntax, the one that decodes it; pydicom would try them all, damaged data too.
_PLUGINS = {
    JPEGBaseline8Bit: _OURS,
    JPEGExtended12Bit: _OURS,
    JPEGLossless: _OURS,
    JPEGLosslessSV1: _OURS,
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    RLELossless: _OURS,
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}
# What pydicom asks of a plugin module.
DECODER_DEPENDENCIES = dict.fromkeys(
    (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless), ("numpy", "imagecodecs")
)
_RLE_HEADER = 64
_RLE_PADDING = 2


def is_available(uid: str) -> bool:
    """Whether this module decodes the transfer syntax `uid`."""
    return uid in DECODER_DEPENDENCIES


def plugin_for(syntax: UID) -> str:
    """The name of the pydicom plugin that decodes `syntax`; empty for pixels that are not compressed.

    Raises:
        UnsupportedImageError: no plugin does.
    """
    if syntax in _PLUGINS:
        return _PLUGINS[syntax]
    if syntax.is_private or syntax.is_encapsulated or not syntax.is_transfer_syntax:
        raise UnsupportedImageError("the DICOM image is compressed in a way that is not supported")
    return ""


def check_codestream(stream: bytes, syntax: UID, size: tuple[int, int], meaning: str) -> tuple[str, int]:
    """The photometric interpretation and the bits of a sample that a compressed frame has by its own header.

    The decoder of JPEG 2000 undoes a component transformation, whatever the DICOM header says; a JPEG may name its
    colours. Where the frame says nothing, it is `meaning`, and 0 bits.

    Raises:
        CorruptImageError: the frame is of another size than `size` (width, height), which was checked, or has none.
    """
    if syntax in _JPEG_2000:
        found = codestream(stream)
        of, bits = (found.width, found.height), found.precision
        meaning = "RGB" if found.transformed and found.components > 2 else meaning
    elif syntax in _JPEG:
        frame = jpeg_frame(stream)
        of, bits = (frame.width, frame.height), frame.precision
        meaning = {"RGB": "RGB", "YBR": "YBR_FULL"}.get(frame.colour, meaning)
    else:
        return meaning, 0
    if of != size:
        raise CorruptImageError(f"the DICOM header says {size[0]} x {size[1]} pixels, its data {of[0]} x {of[1]}")
    return meaning, bits


def _decode_jpeg_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    frame = jpeg_frame(source)
    # libjpeg converts no lossless samples; the reader does.
    converted = runner.photometric_interpretation in ("YBR_FULL", "YBR_FULL_422") and not frame.lossless
    pixels = decode_jpeg(source, frame, "YBR" if converted else "RGB")
    if converted:
        runner.set_option("photometric_interpretation", "RGB")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return bytearray(pixels.tobytes())


def _decode_rle_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    """RLE (DICOM PS3.5, annex G): one segment a byte of a sample, most significant first; none may outgrow the image.

    Two bytes can stand for 128, so that without a bound an upload would become its sixty-fourfold.
    """
    area, depth = runner.rows * runner.columns, runner.bits_allocated // 8
    count, *offsets = struct.unpack("<16I", source[:_RLE_HEADER])
    if count != runner.samples_per_pixel * depth or count > len(offsets):
        raise ValueError(f"{count} RLE segments")
    planes = np.empty((runner.samples_per_pixel, area, depth), np.uint8)
    for number, (start, end) in enumerate(zip(offsets[:count], [*offsets[1:count], len(source)], strict=True)):
        segment = packbits_decode(source[start:end], out=area + _RLE_PADDING)
        planes[number // depth, :, depth - 1 - number % depth] = np.frombuffer(segment, np.uint8, area)
    runner.set_option("planar_configuration", 1)
    return bytearray(planes.tobytes())


for _uid in DECODER_DEPENDENCIES:
    _function = "_decode_rle_frame" if _uid == RLELossless else "_decode_jpeg_frame"
    get_decoder(_uid).add_plugin(_OURS, (__name__, _function))
