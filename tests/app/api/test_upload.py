"""The image bytes inside a request body."""

import base64
import json

import pytest
from starlette.datastructures import Headers

from app.api.upload import Upload, read_upload
from app.errors import MalformedBodyError, NoImageError, UnsupportedImageError
from tests.dicoms import dicom
from tests.pictures import encoded, noise

FILM = encoded(noise())
BOUNDARY = "frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def upload(body: bytes, content_type: str = "") -> Upload:
    return read_upload(body, Headers({"content-type": content_type} if content_type else {}))


def read(body: bytes, content_type: str = "") -> bytes:
    return upload(body, content_type).image.data


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


@pytest.mark.parametrize("name", ["file", "image"])
@pytest.mark.parametrize("filename", ["x.png", "", None])
def test_the_image_of_a_form_needs_no_filename(name, filename):
    """Its field has either name."""
    assert read(part(FILM, name, filename) + END, FORM) == FILM


def test_a_form_may_have_a_preamble_and_an_epilogue():
    """RFC 2046, section 5.1.1: both are to be ignored."""
    assert read(b"This is a form.\r\n" + part(FILM) + END + b"The end.", FORM) == FILM


def test_the_fields_beside_the_image_are_parameters():
    """In their order, repeated ones included."""
    body = part(b"dark", "class", None) + part(FILM) + part("ä".encode(), "class", "x.txt") + END
    assert upload(body, FORM).parameters == [("class", "dark"), ("class", "ä")]


@pytest.mark.parametrize("name", ["file", "image"])
@pytest.mark.parametrize(
    "write",
    [
        lambda data: base64.encodebytes(data).decode(),  # as the command base64 prints it
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.b64encode(data).decode().rstrip("="),
        lambda data: base64.urlsafe_b64encode(data).decode(),
        lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}",
    ],
)
def test_json_with_base64(name, write):
    """In lines or in one, padded or not, of either alphabet, or as a data: URL."""
    for data in (FILM, FILM + b"\xff\xfe\xfd", FILM + b"\xfb"):
        body = json.dumps({name: write(data)}).encode()
        assert read(body, "application/json") == data
        assert read(body) == data


def test_the_keys_beside_the_image_are_parameters():
    """With the types that JSON has, repeated ones included."""
    text = base64.b64encode(FILM).decode()
    body = f'{{"top": 3, "image": "{text}", "class": "a, b", "top": null, "faithfulness": true}}'.encode()
    assert upload(body).parameters == [("top", 3), ("class", "a, b"), ("top", None), ("faithfulness", True)]


def test_raw_bytes_of_no_format_are_refused():
    """Whatever the content type says."""
    with pytest.raises(UnsupportedImageError, match="PNG"):
        read(b"no picture", "image/png")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (END, FORM),
        (part(FILM, name="picture") + END, FORM),
        (part(FILM) + part(FILM) + END, FORM),
        (part(FILM) + part(FILM, name="image") + END, FORM),
        (part(b"text", filename=None) + END, FORM),
        (b"{}", "application/json"),
        (b"[]", "application/json"),
        (b'{"image": 7}', "application/json"),
        (b'{"image": ""}', "application/json"),
        (b'{"image": "QUJD", "image": "QUJD"}', "application/json"),
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
        (b'{"image": "QUJDR"}', "application/json"),
        (b'{"image": "data:image/png,%89PNG"}', "application/json"),
        (part(FILM) + part(b"\xff", "class", None) + END, FORM),
        (part(FILM) + part(b"x" * 100_000, "class", None) + END, FORM),
        (b'{"image": [' + b"[]," * 1_000_000 + b"0]}", "application/json"),
        (part(b"x", "\xff") + END, FORM + "; charset=undefined"),
        (part(b"x", "\xff") + END, FORM + "; charset=punycode"),
    ],
)
def test_an_envelope_that_can_not_be_read(body, content_type):
    """A reason, never a trace."""
    with pytest.raises(MalformedBodyError):
        read(body, content_type)
