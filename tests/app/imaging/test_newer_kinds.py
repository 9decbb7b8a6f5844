"""AVIF, JPEG XL and JPEG 2000: read where the installed libraries decode them."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from app.imaging.decoding import decode
from app.imaging.headers import FORMATS, identify
from tests.pictures import encoded, noise

LIMIT = 1_000_000
FILM = noise(40, 60)
COLOUR = noise(40, 60, 3)
DEEP = np.linspace(0, 4095, 40 * 60).astype(np.uint16).reshape(40, 60)


def shown(data: bytes, **options) -> np.ndarray:
    return np.asarray(decode(identify(data), **({"max_pixels": LIMIT} | options)).image)


def jxl(pixels: np.ndarray, **options) -> bytes:
    return imagecodecs.jpegxl_encode(pixels, lossless=True, **options)


def jp2(pixels: np.ndarray, kind: str = "jp2", **options) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, codecformat=kind, reversible=True, level=0, **options)


LOSSLESS = {
    "JPEG XL": jxl,
    "JPEG XL in its container": lambda pixels: jxl(pixels, usecontainer=True),
    "JPEG 2000": jp2,
    "JPEG 2000 codestream": lambda pixels: jp2(pixels, "j2k"),
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("pixels", [FILM, COLOUR], ids=["grey", "colour"])
def test_lossless_ones_give_the_pixels_back(name, pixels):
    """Grey stays grey; 16 bits are scaled as in any container."""
    assert (shown(LOSSLESS[name](pixels)) == pixels).all()
    assert (shown(LOSSLESS[name](pixels.astype(np.uint16) * 257)) == pixels).all()


def test_twelve_bits_are_scaled_by_their_range():
    """4095 becomes 255."""
    expected = np.floor(DEEP.astype(int) * 255 / 4095 + 0.5).astype(np.uint8)
    assert (shown(jp2(DEEP, bitspersample=12)) == expected).all()
    assert (shown(jxl(DEEP, bitspersample=12)) == expected).all()


def test_an_avif_comes_near_and_is_upright():
    """Its own turning, or that of its EXIF."""
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 32, axis=0)
    np.testing.assert_allclose(
        np.asarray(Image.fromarray(shown(encoded(ramp, "AVIF", quality=95))).convert("L")), ramp, atol=3
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    assert shown(encoded(Image.new("RGB", (40, 20)), "AVIF", exif=exif)).shape == (40, 20, 3)


def test_of_an_animation_the_first_frame_is_taken():
    """And that is said."""
    frames = [Image.fromarray(noise(32, 32, 3, seed=seed)) for seed in range(3)]
    avif = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], duration=100)
    animated = imagecodecs.jpegxl_encode(np.stack([np.asarray(frame) for frame in frames]), lossless=True)
    for data in (avif, animated):
        assert [warning.code for warning in decode(identify(data), max_pixels=LIMIT).warnings] == ["first_frame_only"]
    assert (shown(animated) == np.asarray(frames[0])).all()


@pytest.mark.parametrize("kind", ["AVIF", "JPEG XL", "JPEG 2000"])
def test_pixels_are_counted_before_they_are_decoded(kind):
    """By the header; nothing is decoded then."""
    data = encoded(COLOUR, kind)
    assert shown(data, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(ImageTooLargeError, match="60 x 40"):
        shown(data, max_pixels=2399)


def test_a_jpeg_xl_that_promises_a_billion_pixels_is_refused_by_its_header():
    """Twelve bytes."""
    bits = "0" + "11" + f"{60_000 - 1:030b}"[::-1] + "100"  # a side in 30 bits, as wide as high
    header = b"\xff\x0a" + int(bits[::-1], 2).to_bytes(10, "little")
    with pytest.raises(ImageTooLargeError, match="60000 x 60000"):
        shown(header)


def test_a_jpeg_2000_that_contradicts_its_container_is_refused():
    """The box that Pillow believes, and the codestream that is decoded."""
    data = bytearray(jp2(COLOUR))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", 80, 120)
    with pytest.raises(CorruptImageError):
        shown(bytes(data))
    data = bytearray(jp2(COLOUR))
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 8] = struct.pack(">II", 100_000, 100_000)
    with pytest.raises(ImageTooLargeError):
        shown(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: imagecodecs.jpegxl_encode(FILM.astype(np.float32) / 255, lossless=True), "floating point"),
        (lambda: jp2(FILM.astype(np.int16) - 100, "j2k"), "signed"),
    ],
)
def test_pixels_without_a_known_range_are_refused_for_the_true_reason(data, reason):
    """Not as damaged."""
    with pytest.raises(UnsupportedImageError, match=reason):
        shown(data())


def test_the_list_of_formats_is_what_can_be_read():
    """And a refusal shows it."""
    assert {"AVIF", "JPEG XL", "JPEG 2000"} <= set(FORMATS)
    with pytest.raises(UnsupportedImageError, match="AVIF, JPEG XL, JPEG 2000"):
        identify(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "AVIF")
    data = buffer.getvalue()
    assert identify(data[:8] + b"mif1" + data[12:]).format == "AVIF"
