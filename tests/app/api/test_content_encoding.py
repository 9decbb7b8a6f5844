"""Compressed request bodies."""

import gzip
import importlib.util
import zlib

import pytest
from starlette.testclient import TestClient

from app.api.content_encoding import ENCODINGS, decode_content
from app.errors import MalformedBodyError, UnsupportedEncodingError, UploadTooLargeError
from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.pictures import encoded, noise

IMAGE = encoded(noise())


def raw_deflate(data):
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encodings", "body"),
    [
        ("gzip", gzip.compress(IMAGE)),
        ("GZIP", gzip.compress(IMAGE)),
        ("x-gzip", gzip.compress(IMAGE)),
        ("gzip", gzip.compress(IMAGE[:100]) + gzip.compress(IMAGE[100:])),  # two members, which are one file
        ("deflate", zlib.compress(IMAGE)),
        ("deflate", raw_deflate(IMAGE)),  # as some clients understand it
        ("deflate, gzip", gzip.compress(zlib.compress(IMAGE))),
        ("identity", IMAGE),
    ],
)
def test_a_compressed_image_is_answered(client, encodings, body):
    """As if it had come plain."""
    answer = client.post("/predict", content=body, headers={"content-encoding": encodings})
    assert answer.json() | {"id": ""} == client.post("/predict", content=IMAGE).json() | {"id": ""}


def test_a_compressed_form_is_read(client):
    """The encoding is of the body, whatever that is."""
    plain = client.build_request("POST", "/explain", files={"file": IMAGE}, data={"class": "dark"})
    headers = {"content-encoding": "gzip", "content-type": plain.headers["content-type"]}
    answer = client.post("/explain", content=gzip.compress(plain.read()), headers=headers)
    assert answer.json()["explanation"]["class"] == "dark"


@pytest.mark.parametrize(
    "compress", [gzip.compress, zlib.compress, raw_deflate, lambda d: gzip.compress(gzip.compress(d))]
)
def test_a_bomb_is_refused_within_the_limit(compress):
    """A few kilobytes that would become a hundred megabytes."""
    body = compress(bytes(100_000_000))
    encodings = "gzip, gzip" if compress.__name__ == "<lambda>" else "gzip" if compress is gzip.compress else "deflate"
    with TestClient(create_app(Settings(max_upload_bytes=200_000), BrightnessRuntime())) as client:
        answer = client.post("/predict", content=body, headers={"content-encoding": encodings})
    assert answer.status_code == 413
    assert "200000" in answer.json()["detail"]


def test_exactly_the_limit_is_within_it():
    """One byte more is not."""
    assert decode_content(gzip.compress(bytes(1000)), "gzip", 1000) == bytes(1000)
    with pytest.raises(UploadTooLargeError):
        decode_content(gzip.compress(bytes(1001)), "gzip", 1000)


@pytest.mark.parametrize("encodings", ["br", "gzip, compress", "gzip, gzip, gzip, gzip"])
def test_an_unknown_encoding_is_refused_with_the_known_ones(client, encodings):
    """415, as RFC 9110 has it in section 15.5.16."""
    answer = client.post("/predict", content=IMAGE, headers={"content-encoding": encodings})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == ", ".join(ENCODINGS)
    assert "gzip" in answer.json()["detail"]


@pytest.mark.parametrize("body", [IMAGE, gzip.compress(IMAGE)[:-9], b"", zlib.compress(IMAGE)])
def test_a_body_that_is_not_what_it_declares_is_malformed(client, body):
    """Not a failure of the service."""
    assert client.post("/predict", content=body, headers={"content-encoding": "gzip"}).status_code == 400


@pytest.mark.skipif(importlib.util.find_spec("compression") is None, reason="needs Python 3.14, which has zstd")
def test_zstd_is_read_where_python_has_it():
    """RFC 8878."""
    zstd = importlib.import_module("compression.zstd")
    assert decode_content(zstd.compress(IMAGE), "zstd", len(IMAGE)) == IMAGE
    with pytest.raises(UploadTooLargeError):
        decode_content(zstd.compress(bytes(10_000)), "zstd", 9_999)
    with pytest.raises(MalformedBodyError):
        decode_content(b"no zstd", "zstd", 100)
    assert "zstd" in ENCODINGS


def test_without_zstd_it_is_not_offered():
    """A client is told what it may send."""
    if importlib.util.find_spec("compression") is None:
        with pytest.raises(UnsupportedEncodingError, match="gzip, deflate"):
            decode_content(b"", "zstd", 100)
