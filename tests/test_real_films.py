"""Real DICOM films through the service, with the model that ships."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.artifact.runtimes.base import Runtime
from app.main import create_app
from app.settings import Settings
from tests.dicoms import PATIENT, dicom, packaged
from tests.pictures import noise

SECRETS = (PATIENT, "Musterfrau", "4711", "19640812")


@pytest.fixture(scope="module")
def service(shipped_runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), shipped_runtime)) as client:
        yield client


def predicted(service, data, content_type="application/dicom"):
    answer = service.post("/predict", content=data, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_chest_film_and_its_lossless_twin_get_the_same_answer(service):
    """To the last digit; the lossy twin nearly."""
    original = predicted(service, packaged("RG1_UNCR.dcm"))
    assert original["image"] == {"width": 1841, "height": 1955, "format": "DICOM"}
    assert predicted(service, packaged("RG1_J2KR.dcm")) | {"id": ""} == original | {"id": ""}
    lossy = predicted(service, packaged("RG1_J2KI.dcm"), "application/octet-stream")
    assert lossy["probabilities"] == pytest.approx(original["probabilities"], abs=0.05)
    assert lossy["label"] == original["label"]
    assert original["novelty"]["out_of_distribution"] is False


@pytest.mark.parametrize("name", ["RG3_UNCR.dcm", "RG3_J2KR.dcm"])
def test_a_leg_is_novel(service, name):
    """No chest film, and flagged."""
    assert predicted(service, packaged(name))["novelty"]["out_of_distribution"] is True


def test_several_frames_are_a_question(client):
    """422, with how many there are."""
    answer = client.post("/predict", content=packaged("OBXXXX1A_2frame.dcm"))
    assert answer.status_code == 422
    assert "2 frames" in answer.json()["detail"]


def test_a_report_is_no_image(client):
    """415."""
    assert client.post("/predict", content=packaged("test-SR.dcm")).status_code == 415


def test_a_window_that_misses_the_film_is_said_so(client):
    """With any model, whatever its thresholds."""
    pixels = noise(40, 60).astype("uint16") * 16
    missed = dicom(pixels, BitsStored=12, WindowCenter=50_000, WindowWidth=100)
    for path in ("/predict", "/explain"):
        codes = [warning["code"] for warning in client.post(path, content=missed).json()["warnings"]]
        assert "low_contrast" in codes


def test_a_refusal_names_the_attribute(client):
    """And neither its value nor the patient."""
    answer = client.post("/predict", content=dicom(noise(40, 60), Rows=None))
    assert answer.status_code == 422
    assert "Rows (0028,0010) is missing" in answer.json()["detail"]
    assert not any(secret in answer.text for secret in SECRETS)


@pytest.mark.parametrize("cut", [0, 200])
def test_nothing_of_a_patient_is_answered_or_logged(client, caplog, cut):
    """Whether the film can be read or not."""
    caplog.set_level("DEBUG")
    data = dicom(noise(40, 60))
    answer = client.post("/explain", content=data[: len(data) - cut])
    assert answer.status_code == (422 if cut else 200)
    said = answer.text + str(answer.headers) + caplog.text
    assert not any(secret in said for secret in SECRETS)
