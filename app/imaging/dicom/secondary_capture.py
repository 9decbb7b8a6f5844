"""Overlays as DICOM objects: Secondary Captures in the study of the source image.

The objects repeat the patient and study data of the source, so that archives can file them. These data are neither
stored nor logged.
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

# The log and the warnings of highdicom quote values, and these may contain a patient's name.
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"highdicom\.")

# Elements of Patient and General Study (DICOM PS3.3, C.7.1.1 and C.7.2.1), by which archives file an object.
_FILED_UNDER = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
)
# Elements of the source that also apply to the overlay.
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
    """Encode `overlay` as a DICOM file (Secondary Capture Image Storage, Explicit VR Little Endian).

    The object belongs to the study of `source`, with a new series and a new instance UID. Patient and study elements
    that `source` lacks, as in anonymised images, stay empty. If `source` has no study, the object starts a new one.

    Args:
        source: the DICOM object of the source image.
        overlay: RGB `[H, W, 3]`, 0..255.
        derivation: how the overlay was made, cut to 1024 characters.
        series_description: the name of the series in viewers, cut to 64 characters.
        notice: a text that is burned into the pixels, in a strip below the overlay.
        frame: the frame of `source` that was explained, counted from 1; None if there is only one.

    Raises:
        CorruptImageError: if the header of `source` is damaged.
    """
    header = read_header(source, (*_FILED_UNDER, *_KEPT, *_REFERENCES), max_bytes=_MAX_BYTES)
    try:
        image = _image(header, with_notice(overlay, notice), series_description)
        _copy(header, image)
    except (AttributeError, BytesLengthException, LookupError, NotImplementedError, TypeError, ValueError):
        # The cause is suppressed because it quotes the header.
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
    """Create an object with `pixels` `[H, W, 3]` in the study of `header`, still without patient data."""
    image = SCImage(
        pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # a required argument, which is replaced below
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
    """Copy patient, study and image elements unchanged, even if they are invalid, but in UTF-8."""
    for keyword in (*_FILED_UNDER, *_KEPT):
        if keyword in header:
            element = header[keyword]
            value = str(element.value) if isinstance(element.value, PersonName) else element.value
            image.add(DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE))


def _reference(header: Dataset, frame: int | None) -> Dataset:
    """Create a reference to the source image."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def with_notice(overlay: UInt8Array, notice: str) -> UInt8Array:
    """Add a black strip with `notice` in white below `overlay` `[H, W, 3]`.

    The font is the largest in which the notice fits on one line. If none does, the notice is wrapped.
    """
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
    """Break `notice` between words, so that each line fits into `room` pixels or is a single word."""
    lines = [""]
    for word in notice.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
