"""The image bytes inside a request body."""

import base64
import json

import anyio
import pytest
from starlette.datastructures import Headers

from app.api.upload import read_image
from app.errors import MalformedBodyError, NoImageError
from app.imaging.headers import EncodedImage
from app.serving.workers import Workers
from tests.dicoms import dicom
from tests.pictures import encoded, noise

FILM = encoded(noise())
BOUNDARY = "frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def read(body: bytes, content_type: str = "") -> bytes:
    async def reading() -> EncodedImage:
        with Workers(1) as workers:
            return await read_image(body, Headers({"content-type": content_type} if content_type else {}), workers)

    return anyio.run(reading).data


def part(content: bytes, name="file", filename="x.png"):
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    "content_type", ["", "image/png", "application/x-www-form-urlencoded", "application/json", FORM]
)
def test_raw_bytes_are_known_by_their_magic(content_type):
    """Whatever the content type says: curl calls everything a form."""
    assert read(FILM, content_type) == FILM


@pytest.mark.parametrize("start", [0, 132])
def test_a_dicom_object_is_known_with_and_without_its_preamble(start):
    """Whatever the content type says, too."""
    film = dicom(noise())[start:]
    assert read(film, "application/json") == film
    assert read(film, "application/dicom") == film


def test_a_form_field_named_file():
    """As curl -F sends it, other fields beside it."""
    assert read(part(b"hello", "comment", None) + part(FILM) + END, FORM) == FILM


def test_json_with_base64():
    """In one line, or broken as `base64` prints it."""
    text = base64.encodebytes(FILM).decode()
    assert read(json.dumps({"image": text}).encode(), "application/json") == FILM
    assert read(json.dumps({"image": text.replace("\n", "")}).encode()) == FILM


def test_what_is_no_envelope_is_passed_on():
    """The decoder says what is wrong with it."""
    assert read(b"GIF89a...", "image/gif") == b"GIF89a..."


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (END, FORM),
        (part(FILM, name="picture") + END, FORM),
        (part(FILM) + part(FILM) + END, FORM),
        (part(b"text", filename=None) + END, FORM),
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b'{"image": 7}', "application/json"),
        (b'{"image": ""}', "application/json"),
    ],
)
def test_no_image_where_one_should_be(body, content_type):
    """Says what to send."""
    with pytest.raises(NoImageError):
        read(body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (part(FILM) + END, "multipart/form-data"),
        (b"nonsense", FORM),
        (part(FILM), FORM),  # cut short
        (part(FILM)[:50], FORM),
        (b"".join(part(b"x", f"f{i}") for i in range(40)) + END, FORM),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"image": "no base64!"}', "application/json"),
        (b'{"image": "\xc3\xa9\xc3\xa9"}', "application/json"),
        (b'{"image": "QUJ"}', "application/json"),
        (b'{"image": [' + b"[]," * 1_000_000 + b"0]}", "application/json"),
        (part(b"x", "\xff") + END, FORM + "; charset=undefined"),
        (part(b"x", "\xff") + END, FORM + "; charset=punycode"),
    ],
)
def test_an_envelope_that_can_not_be_read(body, content_type):
    """A reason, never a trace."""
    with pytest.raises(MalformedBodyError):
        read(body, content_type)
