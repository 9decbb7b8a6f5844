"""Stored pixels of DICOM objects: their description in the header, with defaults, and the decoding of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from app.errors import UnsupportedImageError
from app.imaging.dicom.attributes import named, term, whole, wrong
from app.imaging.dicom.codecs import check_codestream, plugin_for

_GREY = ("MONOCHROME1", "MONOCHROME2")
_SAMPLES = {
    **dict.fromkeys((*_GREY, "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"), 3),
}
_MAX_FRAMES = 2**31


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The Image Pixel module (DICOM PS3.3, C.7.6.3).

    `meaning` is the photometric interpretation. A stored value has `bits` bits, `shift` bits above the lowest of its
    word; `signed` values are in two's complement.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    meaning: str
    planar: int
    allocated: int
    bits: int
    shift: int
    signed: bool


def pixel_format(header: Dataset) -> PixelFormat:
    """Read the description of the pixels; missing attributes that have one sensible value get it.

    Raises:
        CorruptImageError: if an attribute is missing or contradicts others; the message names it.
        UnsupportedImageError: if the photometric interpretation or the number of bits is not supported.
    """
    meaning = term(header, "PhotometricInterpretation")
    if not meaning:
        raise wrong("PhotometricInterpretation", "is missing")
    if meaning not in _SAMPLES:
        raise UnsupportedImageError(
            f"the {named('PhotometricInterpretation')} of the DICOM image is not supported; "
            f"supported are {', '.join(_SAMPLES)}"
        )
    samples = whole(header, "SamplesPerPixel", _SAMPLES[meaning])
    if samples != _SAMPLES[meaning]:
        raise wrong("SamplesPerPixel", f"contradicts its {named('PhotometricInterpretation')}")
    planar = whole(header, "PlanarConfiguration", 0) if samples > 1 else 0
    if planar > 1:
        raise wrong("PlanarConfiguration", "is neither 0 nor 1")
    signed = whole(header, "PixelRepresentation", 0)
    if signed > 1:
        raise wrong("PixelRepresentation", "is neither 0 nor 1")
    allocated, bits, shift = _bits(header)
    return PixelFormat(
        rows=whole(header, "Rows"),
        columns=whole(header, "Columns"),
        frames=min(whole(header, "NumberOfFrames", 1) or 1, _MAX_FRAMES),
        samples=samples,
        meaning=meaning,
        planar=planar,
        allocated=allocated,
        bits=bits,
        shift=shift,
        signed=bool(signed),
    )


def _bits(header: Dataset) -> tuple[int, int, int]:
    """Return bits allocated, bits stored, and the shift of the stored bits above the lowest bit.

    A High Bit outside the word, or with too few bits below it, is ignored.
    """
    high, stored = whole(header, "HighBit", -1), whole(header, "BitsStored", 0)
    said = stored or high + 1
    allocated = whole(header, "BitsAllocated", 8 * -(-said // 8) or None)
    if allocated not in (1, 8, 16):
        raise UnsupportedImageError(
            f"DICOM pixels of {allocated} bits are not supported: {named('BitsAllocated')} has to be 8 or 16"
        )
    stored = stored or (said if 0 < said <= allocated else allocated)
    if stored > allocated:
        raise wrong("BitsStored", f"is larger than its {named('BitsAllocated')}")
    return allocated, stored, high + 1 - stored if stored <= high < allocated else 0


def stored_pixels(header: Dataset, form: PixelFormat, index: int) -> tuple[np.ndarray, str, int]:
    """Decode frame `index` to words `[H, W]` or `[H, W, 3]`; return also their photometric interpretation and shift.

    Raises:
        CorruptImageError: if a compressed frame has another size than the header.
        UnsupportedImageError: if the compression is not supported.
    """
    syntax = header.file_meta.TransferSyntaxUID
    plugin = plugin_for(syntax)
    meaning, shift = form.meaning, form.shift
    element = header["PixelData"]
    if syntax.is_encapsulated:
        stream = get_frame(element.value, index, number_of_frames=form.frames)
        meaning, precision = check_codestream(stream, syntax, (form.columns, form.rows), meaning)
        if 0 < precision <= form.bits:  # the codestream contains unshifted values
            shift = 0
    elif meaning == "YBR_FULL_422" and len(element.value) >= form.rows * form.columns * 3 * form.frames:
        meaning = "YBR_FULL"  # the chroma is not subsampled
    described = _described(form, meaning, syntax)
    described[element.tag] = element
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in header:
            described[keyword] = header[keyword]
    pixels, properties = get_decoder(syntax).as_array(
        described, index=index, decoding_plugin=plugin, as_rgb=False, correct_unused_bits=False
    )
    return pixels, str(properties["photometric_interpretation"]), shift


def _described(form: PixelFormat, meaning: str, syntax: UID) -> Dataset:
    """Create a header with the values of `form`, for the decoders of pydicom."""
    described = Dataset()
    described.file_meta = Dataset()
    described.file_meta.TransferSyntaxUID = syntax
    described.Rows, described.Columns, described.NumberOfFrames = form.rows, form.columns, form.frames
    described.SamplesPerPixel, described.PhotometricInterpretation = form.samples, meaning
    described.BitsAllocated, described.BitsStored, described.HighBit = form.allocated, form.bits, form.bits - 1
    described.PixelRepresentation = int(form.signed)
    if form.samples > 1:
        described.PlanarConfiguration = form.planar
    return described
