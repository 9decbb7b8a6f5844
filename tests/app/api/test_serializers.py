"""The media types that an answer can have."""

import io

import numpy as np
import pydicom
import pytest

from tests.dicoms import PATIENT, dicom
from tests.pictures import constant, decoded, encoded, noise

PNG_FILM = encoded(constant(255))
DICOM_FILM = dicom(noise(40, 60))
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "png_film", "dicom_film"),
    [
        ("*/*", "application/json", "application/json"),  # curl, httpx
        ("application/json", "application/json", "application/json"),
        (BROWSER, "image/webp", "image/webp"),
        ("image/*", "image/png", "image/png"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/webp", "image/webp"),  # <img>
        ("image/jpeg;q=0.5, image/png;q=0.9", "image/png", "image/png"),
        ("application/x-npy", "application/x-npy", "application/x-npy"),
        ("application/dicom", 406, "application/dicom"),
        ("application/dicom, */*;q=0.1", "application/json", "application/dicom"),
        ("multipart/related; type=application/dicom", 406, 406),
        ("text/html", 406, 406),
    ],
)
def test_accept_decides(client, accept, png_film, dicom_film):
    """With q-values; DICOM only for what came as DICOM."""
    for film, expected in ((PNG_FILM, png_film), (DICOM_FILM, dicom_film)):
        answer = client.post("/explain", content=film, headers={"accept": accept})
        if expected == 406:
            assert answer.status_code == 406
        else:
            assert answer.headers["content-type"] == expected
            assert "accept" in answer.headers["vary"].lower()


def test_the_heatmap_as_numbers(client):
    """float32 `[h, w]`, the values that JSON has."""
    values = client.post("/explain", content=PNG_FILM).json()["explanation"]["heatmap"]["values"]
    answer = client.post("/explain", content=PNG_FILM, headers={"accept": "application/x-npy"})
    heatmap = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert heatmap.dtype == np.float32
    np.testing.assert_array_equal(heatmap, np.float32(values))
    assert answer.headers["x-lightbox-label"] == "bright"


def test_the_overlay_filed_in_its_study(client):
    """What comes back is a Secondary Capture beside the film: same patient and study, own UIDs, the same picture."""
    source = pydicom.dcmread(io.BytesIO(DICOM_FILM))
    picture = client.post("/explain?class=bright", content=DICOM_FILM, headers={"accept": "image/png"})
    answer = client.post("/explain?class=bright", content=DICOM_FILM, headers={"accept": "application/dicom"})
    filed = pydicom.dcmread(io.BytesIO(answer.content))
    assert filed.StudyInstanceUID == source.StudyInstanceUID
    assert filed.PatientName == PATIENT
    assert filed.SeriesInstanceUID != source.SeriesInstanceUID
    assert filed.SOPInstanceUID != source.SOPInstanceUID
    assert list(filed.ImageType) == ["DERIVED", "SECONDARY"]
    for part in ("gradcam", "bright", "double version 3", "blocks"):
        assert part in filed.DerivationDescription
    assert filed.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    np.testing.assert_array_equal(filed.pixel_array[:40], decoded(picture.content))
    assert PATIENT not in str(answer.headers)
