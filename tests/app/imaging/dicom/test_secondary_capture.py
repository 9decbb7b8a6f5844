"""The overlay as a DICOM object, filed where its film is."""

import io
import logging
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from app.errors import CorruptImageError
from app.imaging.dicom.secondary_capture import secondary_capture, with_notice
from tests.dicoms import PATIENT, dicom, packaged
from tests.pictures import noise

NOTICE = "RESEARCH USE ONLY"
OVERLAY = noise(300, 400, 3)
SAID = {
    "derivation": "Grad-CAM of class PNEUMONIA by cxr-vgg16 1, blended at alpha 0.5",
    "series_description": "Lightbox: where cxr-vgg16 looked",
    "notice": NOTICE,
}
FILED_UNDER = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientOrientation", "BodyPartExamined"),
)


def made(source: bytes, **options) -> Dataset:
    return pydicom.dcmread(io.BytesIO(secondary_capture(source, OVERLAY, **SAID, **options)))


def test_it_is_filed_with_its_film_and_refers_to_it():
    """Same patient, same study; a series and an instance of its own."""
    source = dicom(noise(20, 30))
    film, capture = pydicom.dcmread(io.BytesIO(source)), made(source)
    for keyword in FILED_UNDER:
        assert capture[keyword].value == film[keyword].value, keyword
    assert capture.SOPClassUID == capture.file_meta.MediaStorageSOPClassUID == SecondaryCaptureImageStorage
    assert capture.SOPInstanceUID == capture.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        assert capture[keyword].value not in (film[keyword].value, made(source)[keyword].value)
        assert capture[keyword].value.is_valid
    (reference,) = capture.SourceImageSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        film.SOPClassUID,
        film.SOPInstanceUID,
    )


def test_it_says_what_was_done():
    """And that it is derived, for research."""
    capture = made(dicom(noise(20, 30)))
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    assert capture.DerivationDescription == SAID["derivation"]
    assert capture.SeriesDescription == SAID["series_description"]
    assert capture.ContentQualification == "RESEARCH"
    assert capture.ConversionType == "WSD"


def test_the_overlay_is_whole_and_the_notice_below_it():
    """Burned in, hiding nothing."""
    pixels = made(dicom(noise(20, 30))).pixel_array
    assert (pixels[:300] == OVERLAY).all()
    strip = pixels[300:]
    assert strip.max() == 255
    assert 0.01 < (strip > 128).mean() < 0.5


@pytest.mark.parametrize("width", [1, 40, 200, 2000])
def test_a_notice_fits_any_width(width):
    """Smaller, or in several lines."""
    marked = with_notice(np.zeros((10, width, 3), np.uint8), NOTICE)
    assert marked.shape[1] == width
    assert marked.shape[0] > 10
    if width > 1:
        assert (marked[10:, 4:] > 128).any()


def test_an_anonymous_film_stays_anonymous():
    """Empty where it is empty; without a study it begins one."""
    missing = dict.fromkeys((*FILED_UNDER[:-1], "SOPInstanceUID"))
    capture = made(dicom(noise(20, 30), **missing))
    for keyword in missing.keys() - {"StudyInstanceUID", "SOPInstanceUID"}:
        assert not capture[keyword].value, keyword
    assert capture.StudyInstanceUID.is_valid
    assert "SourceImageSequence" not in capture


def test_names_of_any_script_survive():
    """Whatever character set the film was written in."""
    source = dicom(noise(20, 30), SpecificCharacterSet="ISO_IR 144", PatientName="Люкceмбypг", StudyDescription="Грудь")
    capture = made(source)
    assert capture.PatientName == "Люкceмбypг"
    assert capture.StudyDescription == "Грудь"


def test_what_is_not_valid_is_copied_as_it_is():
    """A study must not fall apart over a date."""
    with pydicom.config.disable_value_validation():
        source = dicom(noise(20, 30), PatientBirthDate="12.8.1964", PatientSex="W", AccessionNumber="x" * 40)
        capture = made(source)
        assert (capture.PatientBirthDate, capture.PatientSex) == ("12.8.1964", "W")
        assert capture.AccessionNumber == "x" * 40


@pytest.mark.parametrize("annotation", ["YES", "NO", None])
def test_burned_in_names_stay_declared(annotation):
    """The notice names nobody: what the film says of itself stays true."""
    capture = made(dicom(noise(20, 30), BurnedInAnnotation=annotation))
    assert capture.get("BurnedInAnnotation") == annotation


def test_once_lossy_always_lossy():
    """By the film's header or its transfer syntax."""
    assert "LossyImageCompression" not in made(dicom(noise(24, 32)))
    assert made(dicom(noise(24, 32), JPEGBaseline8Bit)).LossyImageCompression == "01"
    assert made(dicom(noise(24, 32), LossyImageCompression="01")).LossyImageCompression == "01"


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_J2KI.dcm", "OBXXXX1A_2frame.dcm", "ExplVR_BigEnd.dcm"])
def test_real_films(name):
    """Written, read back, and of the same study."""
    source = packaged(name)
    capture = made(source, frame=2 if "2frame" in name else None)
    film = pydicom.dcmread(io.BytesIO(source), stop_before_pixels=True)
    assert capture.StudyInstanceUID == film.StudyInstanceUID
    assert capture.PatientName == film.PatientName
    if "2frame" in name:
        assert capture.SourceImageSequence[0].ReferencedFrameNumber == 2


def test_a_big_endian_film():
    """The capture is written little-endian."""
    assert made(dicom(noise(20, 30), ExplicitVRBigEndian)).PatientName == PATIENT


@pytest.mark.parametrize("source", [b"", b"\0" * 200, dicom(noise(20, 30))[:150], b"\x02\0\0\0UL\x04\0"])
def test_a_source_that_can_not_be_read(source):
    """Is refused, or copied as far as it goes."""
    try:
        capture = made(source)
    except CorruptImageError:
        return
    assert not capture.PatientName


def test_nothing_of_the_patient_is_logged(caplog, recwarn, capfd):
    """highdicom and pydicom warn of odd names in full."""
    caplog.set_level(logging.DEBUG)
    with pydicom.config.disable_value_validation():
        source = dicom(noise(20, 30), PatientName="Musterfrau", PatientBirthDate="1964.08", PatientID="4711" * 40)
    secondary_capture(source, OVERLAY, **SAID)
    said = caplog.text + "".join(str(warning.message) for warning in recwarn) + "".join(capfd.readouterr())
    assert not any(secret in said for secret in ("Musterfrau", "1964", "4711"))


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="needs dcmdump (dcmtk)")
def test_dcmtk_reads_it(tmp_path):
    """Without a warning or an error."""
    path = tmp_path / "capture.dcm"
    path.write_bytes(secondary_capture(dicom(noise(20, 30)), OVERLAY, **SAID))
    run = subprocess.run([shutil.which("dcmdump"), path], capture_output=True, text=True, check=True)
    assert "SecondaryCaptureImageStorage" in run.stdout
    assert PATIENT in run.stdout
    assert run.stderr == ""


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (dicom3tools)")
def test_dciodvfy_finds_no_error(tmp_path):
    """The IOD's modules are complete."""
    path = tmp_path / "capture.dcm"
    path.write_bytes(secondary_capture(dicom(noise(20, 30)), OVERLAY, **SAID))
    run = subprocess.run([shutil.which("dciodvfy"), path], capture_output=True, text=True, check=False)
    said = run.stdout + run.stderr
    assert "SCImage" in said
    assert [line for line in said.splitlines() if line.startswith("Error")] == []
