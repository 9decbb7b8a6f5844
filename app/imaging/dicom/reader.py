"""Reading of DICOM objects: their pixels, and a limited part of their headers.

For decoding, only the elements listed here are read. None of them identifies a patient, so that no patient data can
reach a response or a log.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image
from pydicom import Dataset, config, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from app.errors import CorruptImageError, QuestionError, UnsupportedImageError
from app.imaging.dicom import presentation
from app.imaging.dicom.attributes import numbers, wrong
from app.imaging.dicom.pixels import PixelFormat, pixel_format, stored_pixels
from app.imaging.headers import check_size
from app.imaging.picture import HeaderFacts, Picture

# pydicom quotes values in its log and its warnings, and these may contain a patient's name.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom\.")
config.settings.reading_validation_mode = config.IGNORE

_TABLES = ("PaletteColorLookupTableDescriptor", "PaletteColorLookupTableData")
_IMAGE = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(f"{channel}{table}" for channel in ("Red", "Green", "Blue") for table in _TABLES),
    *(f"Segmented{channel}PaletteColorLookupTableData" for channel in ("Red", "Green", "Blue")),
    *("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
)
_FLOATING = ("FloatPixelData", "DoubleFloatPixelData")
_FACTS = ("Modality", "BodyPartExamined", "ViewPosition")
# DX objects encode body part and view as SNOMED CT codes, older ones as SNOMED RT codes (DICOM PS3.16).
_CODED = {"BodyPartExamined": "AnatomicRegionSequence", "ViewPosition": "ViewCodeSequence"}
_TERMS = {
    **dict.fromkeys(("816094009", "51185008", "T-D3000"), "CHEST"),
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
}
_MAX_CODES_BYTES = 64 * 1024
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# One element takes about one read.
_MAX_READS = 500_000
_HEADER_BYTES = 16 * 1024 * 1024
_SQUARE = 0.01
_MAX_ASPECT = 10.0
# The exceptions of pydicom and its plugins for damaged data; they document no common base class.
_DAMAGE = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    ZeroDivisionError,
    struct.error,
    BytesLengthException,
    InvalidDicomError,
)


class _Metered(io.BytesIO):
    """A stream with a limited number of reads: a file of tiny elements would occupy a thread for seconds."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise CorruptImageError("the DICOM header has too many elements")
        return super().read(size)


def read_header(data: bytes, keywords: Iterable[str], *, max_bytes: int) -> Dataset:
    """Read the elements of a DICOM object that `keywords` name, and its transfer syntax. Inflate it if it is deflated.

    Raises:
        CorruptImageError: if it can't be parsed, has too many elements, or inflates to more than `max_bytes`.
    """
    try:
        return _read_header(data, [tag_for_keyword(keyword) or 0 for keyword in keywords], max_bytes)
    except (*_DAMAGE, zlib.error):
        raise _damaged() from None  # the cause quotes the header


def _read_header(data: bytes, tags: list[int], max_bytes: int) -> Dataset:
    stream = _Metered(data)
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=_after_meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        stream.seek(0)
        header = dcmread(stream, force=True, specific_tags=tags)
        if "TransferSyntaxUID" not in header.file_meta:
            header.file_meta.TransferSyntaxUID = _uncompressed(header.original_encoding)
        return header
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(stream.read(), max_bytes)
    if inflater.unconsumed_tail:
        raise CorruptImageError(f"the DICOM object inflates to more than {max_bytes} bytes")
    header = read_dataset(_Metered(inflated), False, True, specific_tags=[BaseTag(tag) for tag in tags])
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.set_original_encoding(False, True)
    return header


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 0x0002


def _uncompressed(encoding: tuple[bool | None, bool | None]) -> UID:
    implicit, little_endian = encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def decode_dicom(data: bytes, *, max_pixels: int, frame: int | None = None) -> Picture:
    """Decode the image of a DICOM object to square pixels with 8 bits per channel.

    Args:
        data: the DICOM object.
        max_pixels: the largest number of pixels of a frame.
        frame: the frame to decode, counted from 1; None if there is only one.

    Raises:
        UnsupportedImageError: if the object contains no image, or an image of an unsupported kind.
        ImageTooLargeError: if the header declares more than `max_pixels` pixels per frame; nothing is decoded then.
        QuestionError: if `frame` does not exist, or is None although there are several frames.
        CorruptImageError: if the object is truncated, damaged or inconsistent.
    """
    header = read_header(data, (*_IMAGE, *_FACTS, *_CODED.values()), max_bytes=3 * max_pixels + _HEADER_BYTES)
    if "PixelData" not in header:
        # pydicom drops whatever is truncated: the whole object, or only its pixels.
        if len(header) == 0 or ("Rows" in header and not any(keyword in header for keyword in _FLOATING)):
            raise _damaged()
        raise UnsupportedImageError("the DICOM object contains no image with integer pixels (no Pixel Data)")
    try:
        form = pixel_format(header)
        index = _frame_index(frame, form.frames)
        check_size(form.columns, form.rows, max_pixels)
        aspect = _aspect(header)
        check_size(*_square(form.columns, form.rows, aspect), max_pixels)
        pixels, found = _pixels(header, form, index)
        facts = header_facts(header)
    except _DAMAGE:
        raise _damaged() from None  # the cause quotes the header
    image = Image.fromarray(pixels)
    if aspect != 1:
        image = image.resize(_square(*image.size, aspect), Image.Resampling.BILINEAR)
    return Picture(image, "DICOM", found, facts)


def _damaged() -> CorruptImageError:
    return CorruptImageError("the DICOM image can't be decoded: it is truncated or damaged")


def _frame_index(frame: int | None, frames: int) -> int:
    if frame is None and frames > 1:
        raise QuestionError(f"the image has {frames} frames; choose one with 'frame', from 1 to {frames}")
    if frame is not None and not 1 <= frame <= frames:
        raise QuestionError(f"there is no frame {frame}; the image has {frames}")
    return (frame or 1) - 1


def _pixels(header: Dataset, form: PixelFormat, index: int) -> tuple[np.ndarray, presentation.Warnings]:
    """Render frame `index` as uint8 `[H, W]` or `[H, W, 3]`, with warnings."""
    pixels, meaning, shift = stored_pixels(header, form, index)
    if form.samples == 3:
        return presentation.colour(pixels, form, meaning)
    if meaning != "PALETTE COLOR":
        return presentation.grey(pixels, header, form, shift)
    if not header.file_meta.TransferSyntaxUID.is_little_endian:  # pydicom swaps the bytes of a big-endian palette
        raise UnsupportedImageError("DICOM images with a palette in big-endian byte order are not supported")
    return presentation.palette(pixels, header, form, shift)


def _aspect(header: Dataset) -> float:
    """Return height / width of a pixel (DICOM PS3.3, C.7.6.3.1.7); 1 if it is nearly square or unknown.

    Attributes without two positive numbers are ignored.
    """
    for keyword in ("PixelAspectRatio", *_SPACINGS):
        down, across = [*numbers(header, keyword), None, None][:2]
        if down is not None and across is not None and min(down, across) > 0:
            aspect = down / across
            if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
                raise wrong(keyword, f"says that its pixels are {aspect:g} times as high as wide")
            return 1.0 if abs(aspect - 1) < _SQUARE else aspect
    return 1.0


def _square(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return the size after resampling to square pixels, at the finer of the two resolutions."""
    return (width, round(height * aspect)) if aspect >= 1 else (round(width / aspect), height)


def header_facts(header: Dataset) -> HeaderFacts:
    """Return the kind of image according to `header`; unknown codes are returned as they are."""
    return HeaderFacts(*(_term(header, keyword) for keyword in _FACTS))


def _term(header: Dataset, keyword: str) -> str | None:
    value = header.get(keyword)
    if isinstance(value, str) and value.strip():
        return value.strip().upper()
    coded = _CODED.get(keyword)
    if coded is None or coded not in header or _is_long(header, coded) or not header[coded].value:
        return None
    item = header[coded].value[0]
    code = str(item.get("CodeValue", "")).strip() if isinstance(item, Dataset) else ""
    return _TERMS.get(code, code) or None


def _is_long(header: Dataset, keyword: str) -> bool:
    """Return whether a sequence is too large. Its items are parsed on access, which would take long."""
    raw = header.get_item(keyword)
    return raw.is_raw and raw.value is not None and len(raw.value) > _MAX_CODES_BYTES
