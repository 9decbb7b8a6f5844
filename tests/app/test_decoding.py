"""Bytes to pixels."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.decoding import FORMATS, decode, sniff, to_input
from app.errors import CorruptImageError, ImageTooLargeError, InputError, NoImageError, UnsupportedImageError
from tests.pictures import encoded, noise

LIMIT = 1_000_000


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("channels", [0, 3])
def test_lossless_containers_give_the_pixels_back(kind, channels):
    """The same film in any of them is the same film, grey stays grey."""
    pixels = noise(30, 50, channels)
    picture = decode(encoded(pixels, kind), max_pixels=LIMIT)
    assert (np.asarray(picture.image) == pixels).all()
    assert (picture.width, picture.height, picture.format) == (50, 30, kind)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_other_containers_decode(kind, options):
    """Within what the container keeps."""
    pixels = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 32, axis=0)
    picture = decode(encoded(pixels, kind, **options), max_pixels=LIMIT)
    assert picture.format == kind
    np.testing.assert_allclose(np.asarray(picture.image.convert("L")), pixels, atol=3)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    """65535 becomes 255, half becomes half."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    picture = decode(encoded(Image.fromarray(values)), max_pixels=LIMIT)
    assert np.asarray(picture.image).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_awkward_modes_become_grey_or_rgb(mode):
    """What the network takes has one or three channels of eight bits."""
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = decode(encoded(Image.new("RGB", (9, 7), (200, 10, 10)).convert(mode), kind), max_pixels=LIMIT)
    assert picture.image.mode in ("L", "RGB")
    assert (picture.width, picture.height) == (9, 7)


def test_exif_orientation_is_applied():
    """A film that a phone took sideways is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("L", (40, 20)), "JPEG", exif=exif)
    picture = decode(data, max_pixels=LIMIT)
    assert (picture.width, picture.height) == (20, 40)


def tiff_note(orientation, *more):
    """EXIF with an orientation, and tags of (number, type, count, value bytes)."""
    tags = [(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), *more]
    entries = b"".join(struct.pack("<HHI4s", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_odd_exif_does_not_spoil_a_film(kind):
    """A tag of the wrong type beside the orientation, as some cameras write it."""
    exif = tiff_note(6, (0xA005, 2, 2, b"ab\0\0"))
    picture = decode(encoded(Image.new("L", (40, 20)), kind, exif=exif), max_pixels=LIMIT)
    assert (picture.width, picture.height) == (20, 40)


def test_exif_that_can_not_be_read_says_nothing():
    """The film is as good as without."""
    picture = decode(encoded(Image.new("L", (40, 20)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), max_pixels=LIMIT)
    assert (picture.width, picture.height) == (40, 20)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    """Each costs a pass over all pixels: a small file could hold a thread for an hour."""
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(CorruptImageError, match="scans"):
        decode(data[:-2] + scan * 200 + b"\xff\xd9", max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(mode):
    """Rather than guessed: 32 bits may mean anything."""
    with pytest.raises(UnsupportedImageError, match="range"):
        decode(encoded(Image.new(mode, (5, 5), 100), "TIFF"), max_pixels=LIMIT)


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2,
        b"VP8L\x05\0\0\0\x2f" + (16383 | 16383 << 14).to_bytes(4, "little"),
        b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2,
    ],
)
def test_the_canvas_of_a_webp_is_counted_before_it_is_made(chunk):
    """By its header, of any of the three kinds."""
    with pytest.raises(ImageTooLargeError):
        decode(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk, max_pixels=64_000_000)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 80, "exif": tiff_note(1)}])
def test_a_webp_at_the_limit_is_decoded(options):
    """The header is read right in all three kinds."""
    assert decode(encoded(noise(30, 50, 3), "WEBP", **options), max_pixels=1500).width == 50
    with pytest.raises(ImageTooLargeError, match="50 x 30"):
        decode(encoded(noise(30, 50, 3), "WEBP", **options), max_pixels=1499)


def test_pixels_are_counted_before_they_are_decoded():
    """A header may promise 2.5 billion pixels in a few bytes; none of them is made."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageTooLargeError, match="50000 x 50000"):
        decode(bomb + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")), max_pixels=64_000_000)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_images_are_corrupt(kind, kept):
    """Half a film is not a film."""
    data = encoded(noise(64, 64, 3), kind)
    with pytest.raises(CorruptImageError, match=kind):
        decode(data[: max(16, int(len(data) * kept))], max_pixels=LIMIT)


def test_nothing_is_no_image():
    """An empty body has a message of its own."""
    with pytest.raises(NoImageError):
        decode(b"", max_pixels=LIMIT)


@pytest.mark.parametrize("data", [b"GIF89a", b"%PDF-1.7", b"PK\x03\x04", b"<svg/>", b"\x00" * 64, b"RIFFxxxxWAVE"])
def test_what_the_magic_bytes_do_not_name_is_unsupported(data):
    """And the message says what is."""
    with pytest.raises(UnsupportedImageError, match="PNG, JPEG, WEBP, TIFF, BMP"):
        decode(data, max_pixels=LIMIT)


@settings(deadline=None)  # these machines are noisy
@given(st.sampled_from(FORMATS), st.data())
def test_damage_never_escapes_as_anything_but_an_input_error(kind, data):
    """Whatever byte is flipped, the answer is pixels or a reason."""
    damaged = bytearray(encoded(noise(12, 12, 3), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(damaged), max_pixels=LIMIT)
    except InputError:
        return
    assert picture.image.mode in ("L", "RGB")


def test_sniffing_needs_only_the_first_bytes():
    """Every supported format is known by them."""
    assert [sniff(encoded(noise(4, 4, 3), kind)[:12]) for kind in FORMATS] == list(FORMATS)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (1, "RGB"), (3, "L"), (3, "RGB")])
def test_the_input_has_the_shape_that_the_network_takes(channels, mode):
    """Grey becomes three equal channels, colour becomes luma."""
    picture = decode(encoded(Image.new(mode, (50, 30), 7 if mode == "L" else (7, 7, 7))), max_pixels=LIMIT)
    pixels = to_input(picture, width=16, height=8, channels=channels, fit="squash")
    assert pixels.shape == (8, 16, channels)
    assert (pixels == 7).all()


def test_fits_differ_in_what_they_keep():
    """White margins beside a black square: cropped away, squashed in, or pushed apart by black padding."""
    film = np.full((20, 60), 255, np.uint8)
    film[:, 20:40] = 0
    picture = decode(encoded(film), max_pixels=LIMIT)
    crop, squash, pad = (
        to_input(picture, width=12, height=12, channels=1, fit=fit)[..., 0] for fit in ("crop", "squash", "pad")
    )
    assert crop.max() == 0
    assert (squash[:, 0] == 255).all()
    assert (squash[:, 6] == 0).all()
    assert pad[0].max() == 0
    assert pad[6, 0] == 255


def test_an_exact_fit_is_not_resampled():
    """Pixels of the network's own size arrive as they are."""
    pixels = noise(16, 16, 3)
    picture = decode(encoded(pixels), max_pixels=LIMIT)
    assert (to_input(picture, width=16, height=16, channels=3, fit="crop") == pixels).all()
