"""JPEG streams of a phone and of a scanner: what lies behind them, and which way is up."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImageError
from app.imaging.decoding import decode
from app.imaging.headers import identify
from app.imaging.jpeg import jpeg_frame
from tests.pictures import encoded, noise

LIMIT = 1_000_000
RAMP = np.linspace(0, 255, 48 * 64).astype(np.uint8).reshape(48, 64)


def with_orientation(data: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment behind its start."""
    body = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


TURNED = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (RAMP, {"lossless": True}),
        (RAMP.astype(np.uint16) * 257, {"lossless": True, "bitspersample": 16}),
        (RAMP.astype(np.uint16) * 16, {"level": 100, "bitspersample": 12}),
        (RAMP, {"level": 100}),
    ],
    ids=["lossless", "lossless of 16 bits", "12 bits", "baseline"],
)
def test_a_jpeg_of_any_process_is_upright(pixels, options, orientation):
    """As its EXIF says, whichever decoder takes it."""
    data = with_orientation(imagecodecs.jpeg8_encode(pixels, **options), orientation)
    shown = np.asarray(decode(identify(data), max_pixels=LIMIT).image).astype(int)
    np.testing.assert_allclose(shown, TURNED[orientation](RAMP), atol=3)


VIDEO = b"\0\0\0\x18ftypmp42" + np.random.default_rng(1).bytes(3_000_000) + b"\xff\xda" * 500


@pytest.mark.parametrize(
    "options",
    [{"level": 100}, {"lossless": True}, {"level": 100, "bitspersample": 12}],
    ids=["baseline", "lossless", "12"],
)
def test_a_motion_photo_is_its_photo(options):
    """A video lies behind the end of image, and its bytes are no markers."""
    pixels = RAMP.astype(np.uint16) * 16 if "bitspersample" in options else RAMP
    data = imagecodecs.jpeg8_encode(pixels, **options)
    alone = decode(identify(data), max_pixels=LIMIT)
    assert (np.asarray(decode(identify(data + VIDEO), max_pixels=LIMIT).image) == np.asarray(alone.image)).all()


def test_scans_are_counted_to_the_end_of_the_image():
    """Within it, a hundred are the limit; a thumbnail's don't count."""
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert jpeg_frame(data + scan * 200).complete
    with pytest.raises(CorruptImageError, match="100 scans"):
        jpeg_frame(data[:-2] + scan * 200 + b"\xff\xd9")
    with pytest.raises(CorruptImageError, match="segments"):
        jpeg_frame(data[:-2] + b"\xff\xfe\0\2" * 20_000 + b"\xff\xd9")


@pytest.mark.parametrize("options", [{"lossless": True}, {"bitspersample": 12}])
def test_an_end_of_image_behind_a_cut_is_not_the_images_own(options):
    """A video may hold one: the stream is cut where its scan is."""
    pixels = noise(64, 64).astype(np.uint16) * 16 if "bitspersample" in options else noise(64, 64)
    data = imagecodecs.jpeg8_encode(pixels, **options)
    assert not jpeg_frame(data[: len(data) // 2]).complete
    with pytest.raises(CorruptImageError, match="truncated or damaged"):
        decode(identify(data[: len(data) // 2]), max_pixels=LIMIT)


def test_a_colour_jpeg_says_what_its_colours_are():
    """By Adobe's segment, its components' names or a JFIF; a grey one says nothing."""
    pixels = noise(16, 16, 3)
    assert jpeg_frame(imagecodecs.jpeg8_encode(pixels, colorspace="RGB", outcolorspace="RGB")).colour == "RGB"
    assert jpeg_frame(imagecodecs.jpeg8_encode(pixels, colorspace="RGB", outcolorspace="YCBCR")).colour == "YBR"
    assert jpeg_frame(encoded(Image.fromarray(noise(16, 16)), "JPEG")).colour == ""
