"""Compressed frames: the choice of decoders, the check of codestreams, and pydicom plugins for JPEG and RLE."""

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
# The plugin for each transfer syntax. Otherwise, pydicom would try several, even on damaged data.
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
# pydicom requires this constant and `is_available` of a plugin module.
DECODER_DEPENDENCIES = dict.fromkeys(
    (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless), ("numpy", "imagecodecs")
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


def check_codestream(stream: bytes, syntax: UID, size: tuple[int, int], meaning: str) -> tuple[str, int]:
    """Return the photometric interpretation and the bits per sample of a compressed frame, from its own header.

    JPEG 2000 decoders revert the component transformation, whatever the DICOM header says; a JPEG can specify its
    colours. If the frame specifies nothing, the result is `meaning` and 0 bits.

    Raises:
        CorruptImageError: if the frame does not have the same `size` (width, height) as the DICOM header.
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
        raise CorruptImageError(f"the DICOM header says {size[0]} x {size[1]} pixels, the frame {of[0]} x {of[1]}")
    return meaning, bits


def _decode_jpeg_frame(source: bytes, runner: DecodeRunner) -> bytearray:
    frame = jpeg_frame(source)
    # libjpeg does not convert lossless samples; `presentation.colour` does.
    converted = runner.photometric_interpretation in ("YBR_FULL", "YBR_FULL_422") and not frame.lossless
    pixels = decode_jpeg(source, frame, "YBR" if converted else "RGB")
    if converted:
        runner.set_option("photometric_interpretation", "RGB")
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
