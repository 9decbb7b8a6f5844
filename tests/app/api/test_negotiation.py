"""Which answer type a client gets."""

import pytest

from app.api.negotiation import DICOM, JSON, NPY, answer_types, best_type
from app.errors import NotAcceptableError

OFFERED = ["application/json", "image/png", "image/jpeg", "image/webp"]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("image/webp", "image/webp"),
        ("image/jpeg, application/json;q=0.5", "image/jpeg"),
        ("application/json;q=0.2, image/jpeg;q=0.1", "application/json"),
        ("application/json;q=0, */*", "image/png"),
        (BROWSER, "image/webp"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_the_client_decides(accept, expected):
    """By its preferences; where it has none, JSON."""
    assert best_type(accept, OFFERED) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "application/json;q=0", "garbage", "/", "image/png;q=0"])
def test_what_can_not_be_made_is_refused_with_what_can(accept):
    """406 in the making."""
    with pytest.raises(NotAcceptableError):
        best_type(accept, OFFERED)


PICTURES = ["image/png", "image/jpeg", "image/webp"]
IMG_TAG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.mark.parametrize(
    ("client", "accept", "for_png", "for_dicom"),
    [
        ("curl", "*/*", JSON, JSON),
        ("httpx", "*/*", JSON, JSON),
        ("Java", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "image/jpeg", "image/jpeg"),
        ("a browser's address bar", BROWSER, "image/webp", "image/webp"),
        ("a browser's picture", IMG_TAG, "image/webp", "image/webp"),
        ("fetch for JSON", "application/json, text/plain, */*", JSON, JSON),
        ("any picture", "image/*", "image/png", "image/png"),
        ("any application type", "application/*", JSON, JSON),
        ("numbers", "application/x-npy", NPY, NPY),
        ("numbers rather than JSON", "application/json;q=0.5, application/x-npy", NPY, NPY),
        ("a PACS", "application/dicom", None, DICOM),
        ("DICOMweb", "application/dicom; transfer-syntax=*", None, DICOM),
        ("DICOM where it can be had", "application/dicom, */*;q=0.1", JSON, DICOM),
        ("a picture where DICOM can't be had", "application/dicom, image/jpeg;q=0.5", "image/jpeg", DICOM),
        ("pictures, PNG last", "image/png;q=0.5, image/*;q=0.9", "image/jpeg", "image/jpeg"),
        ("no picture", "image/*;q=0, */*", JSON, JSON),
        ("a web page", "text/html", None, None),
    ],
)
def test_what_common_clients_get(client, accept, for_png, for_dicom):
    """For a picture in, and for DICOM in; None: 406, with the list of what there is."""
    for dicom, expected in ((False, for_png), (True, for_dicom)):
        offered = answer_types(PICTURES, dicom=dicom)
        if expected is None:
            with pytest.raises(NotAcceptableError, match="application/x-npy"):
                best_type(accept, offered)
        else:
            assert best_type(accept, offered) == expected, client


def test_the_preferred_picture_is_the_one_asked_for():
    """`format=jpeg` with `image/*`."""
    assert best_type("image/*", answer_types(["image/jpeg", "image/png"], dicom=False)) == "image/jpeg"
