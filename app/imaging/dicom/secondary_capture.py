"""An overlay as a DICOM object: a Secondary Capture in the study of the film that it was made from.

The object repeats who the film shows, as it must to be filed; nothing of that is kept, logged or said elsewhere.
"""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
from highdicom import UID
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from PIL import Image, ImageDraw, ImageFont
from pydicom import DataElement, Dataset, config
from pydicom.errors import BytesLengthException
from pydicom.sr.codedict import codes
from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import PersonName

from app import __version__
from app.arrays import UInt8Array
from app.errors import CorruptImageError
from app.imaging.dicom.reader import read_header

# Both quote what they find odd, and that may be a patient's name.
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"highdicom\.")

# Patient and General Study (DICOM PS3.3, C.7.1.1 and C.7.2.1): what files an object, copied as it is.
_FILED_UNDER = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
)
# What stays true of the picture.
_KEPT = (
    *("PatientOrientation", "Laterality", "ImageLaterality", "BodyPartExamined", "BurnedInAnnotation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_REFERENCES = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesNumber")
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
_FIRST_SERIES = 1000
_MAX_BYTES = 256 * 1024 * 1024
_MAX_DERIVATION = 1024
_MAX_DESCRIPTION = 64
_MARGIN = 4
_LINE = 1.4
_FONT_SIZES = range(40, 8, -2)


def secondary_capture(
    source: bytes,
    overlay: UInt8Array,
    *,
    derivation: str,
    series_description: str,
    notice: str,
    frame: int | None = None,
) -> bytes:
    """`overlay` as a DICOM file (Secondary Capture Image Storage, Explicit VR Little Endian).

    It belongs to the study of `source`, with a series and an instance UID of its own; what `source` leaves out of
    patient and study (anonymised films do) stays empty, and without a study it begins one.

    Args:
        source: the DICOM object that the film came in.
        overlay: RGB `[H, W, 3]`, 0..255.
        derivation: what was done to the film, at most 1024 characters.
        series_description: what a viewer lists the series as, at most 64 characters.
        notice: burned into the pixels, in a strip below the picture, which hides nothing of it.
        frame: the frame of `source` that the film was, from 1; None where there is only one.

    Raises:
        CorruptImageError: `source` can't be read.
    """
    header = read_header(source, (*_FILED_UNDER, *_KEPT, *_REFERENCES), max_bytes=_MAX_BYTES)
    try:
        image = _image(header, with_notice(overlay, notice), series_description)
        _copy(header, image)
    except (AttributeError, BytesLengthException, LookupError, NotImplementedError, TypeError, ValueError):
        # Without its cause, which quotes the header.
        raise CorruptImageError("the DICOM header can't be copied: it is damaged") from None
    image.DerivationDescription = derivation[:_MAX_DERIVATION]
    if "SOPClassUID" in header and "SOPInstanceUID" in header:
        image.SourceImageSequence = [_reference(header, frame)]
    if header.file_meta.TransferSyntaxUID in _LOSSY:
        image.LossyImageCompression = "01"
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _image(header: Dataset, pixels: UInt8Array, series_description: str) -> SCImage:
    """`pixels` `[H, W, 3]` in the study of `header`, of nobody yet."""
    image = SCImage(
        pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # required here; the film's own, or none, takes its place
        study_instance_uid=header.get("StudyInstanceUID") or UID(),
        series_instance_uid=UID(),
        series_number=_FIRST_SERIES + max(0, int(header.get("SeriesNumber") or 0)),
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="Lightbox",
        manufacturer_model_name="Lightbox",
        software_versions=__version__,
        series_description=series_description[:_MAX_DESCRIPTION],
        content_qualification="RESEARCH",
        specific_character_set="ISO_IR 192",
    )
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ConversionType = "WSD"
    image.PatientOrientation = None
    return image


def _copy(header: Dataset, image: Dataset) -> None:
    """What files and describes the film, as it stands there, whether it is valid or not; in UTF-8."""
    for keyword in (*_FILED_UNDER, *_KEPT):
        if keyword in header:
            element = header[keyword]
            value = str(element.value) if isinstance(element.value, PersonName) else element.value
            image.add(DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE))


def _reference(header: Dataset, frame: int | None) -> Dataset:
    """The film that the overlay was made from."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def with_notice(overlay: UInt8Array, notice: str) -> UInt8Array:
    """`overlay` `[H, W, 3]` on a black strip that says `notice` in white, as large as its width allows."""
    height, width = overlay.shape[:2]
    room = max(1, width - 2 * _MARGIN)
    fitting = (size for size in _FONT_SIZES if ImageFont.load_default(size).getlength(notice) <= room)
    size = next(fitting, _FONT_SIZES[-1])
    font = ImageFont.load_default(size)
    lines = _lines(notice, font, room)
    step = round(_LINE * size)
    canvas = Image.new("RGB", (width, height + step * len(lines) + 2 * _MARGIN))
    canvas.paste(Image.fromarray(overlay), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, height + _MARGIN + number * step), line, font=font, fill="white")
    return np.asarray(canvas)


def _lines(notice: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> list[str]:
    """`notice` broken between words so that each line fits `room` pixels, or is one word."""
    lines = [""]
    for word in notice.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
