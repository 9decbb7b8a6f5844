"""Bytes to pixels."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import JPEG2000Lossless

from app.errors import (
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    NoImageError,
    QuestionError,
    UnsupportedImageError,
)
from app.imaging.decoding import decode, to_input
from app.imaging.headers import FORMATS, identify, sniff
from tests.dicoms import dicom
from tests.pictures import encoded, noise

LIMIT = 1_000_000


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("channels", [0, 3])
def test_lossless_containers_give_the_pixels_back(kind, channels):
    """The same film in any of them is the same film, grey stays grey."""
    pixels = noise(30, 50, channels)
    picture = decode(identify(encoded(pixels, kind)), max_pixels=LIMIT)
    assert (np.asarray(picture.image) == pixels).all()
    assert (picture.width, picture.height, picture.format) == (50, 30, kind)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_other_containers_decode(kind, options):
    """Within what the container keeps."""
    pixels = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 32, axis=0)
    picture = decode(identify(encoded(pixels, kind, **options)), max_pixels=LIMIT)
    assert picture.format == kind
    np.testing.assert_allclose(np.asarray(picture.image.convert("L")), pixels, atol=3)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    """65535 becomes 255, half becomes half."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    picture = decode(identify(encoded(Image.fromarray(values))), max_pixels=LIMIT)
    assert np.asarray(picture.image).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK"])
def test_awkward_modes_become_grey_or_rgb(mode):
    """What the network takes has one or three channels of eight bits."""
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = decode(identify(encoded(Image.new("RGB", (9, 7), (200, 10, 10)).convert(mode), kind)), max_pixels=LIMIT)
    assert picture.image.mode in ("L", "RGB")
    assert (picture.width, picture.height) == (9, 7)


def test_exif_orientation_is_applied():
    """A film that a phone took sideways is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("L", (40, 20)), "JPEG", exif=exif)
    picture = decode(identify(data), max_pixels=LIMIT)
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
    picture = decode(identify(encoded(Image.new("L", (40, 20)), kind, exif=exif)), max_pixels=LIMIT)
    assert (picture.width, picture.height) == (20, 40)


def test_exif_that_can_not_be_read_says_nothing():
    """The film is as good as without."""
    picture = decode(
        identify(encoded(Image.new("L", (40, 20)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), max_pixels=LIMIT
    )
    assert (picture.width, picture.height) == (40, 20)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    """Each costs a pass over all pixels: a small file could hold a thread for an hour."""
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(CorruptImageError, match="scans"):
        decode(identify(data[:-2] + scan * 200 + b"\xff\xd9"), max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(mode):
    """Rather than guessed: 32 bits may mean anything."""
    with pytest.raises(UnsupportedImageError, match="range"):
        decode(identify(encoded(Image.new(mode, (5, 5), 100), "TIFF")), max_pixels=LIMIT)


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
        decode(identify(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk), max_pixels=64_000_000)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 80, "exif": tiff_note(1)}])
def test_a_webp_at_the_limit_is_decoded(options):
    """The header is read right in all three kinds."""
    assert decode(identify(encoded(noise(30, 50, 3), "WEBP", **options)), max_pixels=1500).width == 50
    with pytest.raises(ImageTooLargeError, match="50 x 30"):
        decode(identify(encoded(noise(30, 50, 3), "WEBP", **options)), max_pixels=1499)


def test_pixels_are_counted_before_they_are_decoded():
    """A header may promise 2.5 billion pixels in a few bytes; none of them is made."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageTooLargeError, match="50000 x 50000"):
        decode(
            identify(bomb + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))),
            max_pixels=64_000_000,
        )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_truncated_images_are_corrupt(kind, kept):
    """Half a film is not a film."""
    data = encoded(noise(64, 64, 3), kind)
    with pytest.raises(CorruptImageError, match=kind):
        decode(identify(data[: max(16, int(len(data) * kept))]), max_pixels=LIMIT)


def test_nothing_is_no_image():
    """An empty body has a message of its own."""
    with pytest.raises(NoImageError):
        decode(identify(b""), max_pixels=LIMIT)


@pytest.mark.parametrize("data", [b"%PDF-1.7", b"PK\x03\x04", b"<svg/>", b"\x00" * 64, b"RIFFxxxxWAVE"])
def test_what_the_magic_bytes_do_not_name_is_unsupported(data):
    """And the message says what is."""
    with pytest.raises(UnsupportedImageError, match="PNG, JPEG, WEBP, TIFF, BMP, GIF, DICOM"):
        decode(identify(data), max_pixels=LIMIT)


@settings(deadline=None)  # these machines are noisy
@given(st.sampled_from(FORMATS), st.data())
def test_damage_never_escapes_as_anything_but_an_input_error(kind, data):
    """Whatever byte is flipped, the answer is pixels or a reason."""
    damaged = bytearray(encoded(noise(12, 12, 3), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(identify(bytes(damaged)), max_pixels=LIMIT)
    except InputError:
        return
    assert picture.image.mode in ("L", "RGB")


def test_sniffing_needs_only_the_first_bytes():
    """Every supported format is known by them; DICOM's come after its preamble, or without one."""
    assert [sniff(encoded(noise(4, 4, 3), kind)[:132]) for kind in FORMATS] == list(FORMATS)
    at_once = [kind for kind in FORMATS if kind != "DICOM"]
    assert [sniff(encoded(noise(4, 4, 3), kind)[:12]) for kind in at_once] == at_once


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (1, "RGB"), (3, "L"), (3, "RGB")])
def test_the_input_has_the_shape_that_the_network_takes(channels, mode):
    """Grey becomes three equal channels, colour becomes luma."""
    picture = decode(identify(encoded(Image.new(mode, (50, 30), 7 if mode == "L" else (7, 7, 7)))), max_pixels=LIMIT)
    pixels = to_input(picture, width=16, height=8, channels=channels, fit="squash")
    assert pixels.shape == (8, 16, channels)
    assert (pixels == 7).all()


def test_fits_differ_in_what_they_keep():
    """White margins beside a black square: cropped away, squashed in, or pushed apart by black padding."""
    film = np.full((20, 60), 255, np.uint8)
    film[:, 20:40] = 0
    picture = decode(identify(encoded(film)), max_pixels=LIMIT)
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
    picture = decode(identify(encoded(pixels)), max_pixels=LIMIT)
    assert (to_input(picture, width=16, height=16, channels=3, fit="crop") == pixels).all()


FILM = noise(40, 60)
CONTAINERS = {
    "PNG": encoded(FILM),
    "palette PNG": encoded(Image.fromarray(FILM).convert("P")),
    "RGB PNG": encoded(Image.fromarray(FILM).convert("RGB")),
    "grey and alpha PNG": encoded(Image.fromarray(np.stack([FILM, np.full_like(FILM, 9)], -1), "LA")),
    "RGBA PNG": encoded(Image.fromarray(FILM).convert("RGBA")),
    "16-bit PNG": encoded(Image.fromarray(FILM.astype(np.uint16) * 257)),
    "16-bit TIFF": encoded(Image.fromarray(FILM.astype(np.uint16) * 257), "TIFF"),
    "16-bit inverted TIFF": encoded(Image.fromarray(65535 - FILM.astype(np.uint16) * 257), "TIFF", tiffinfo={262: 0}),
    **{
        f"{compression} TIFF": encoded(FILM, "TIFF", compression=compression)
        for compression in ("tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", "lzma", "zstd")
    },
    "BMP": encoded(FILM, "BMP"),
    "GIF": encoded(FILM, "GIF"),
    "WebP": encoded(Image.fromarray(FILM).convert("RGB"), "WEBP", lossless=True),
    "lossless JPEG": imagecodecs.jpeg8_encode(FILM, lossless=True),
    "16-bit lossless JPEG": imagecodecs.jpeg8_encode(FILM.astype(np.uint16) * 257, lossless=True, bitspersample=16),
    "DICOM": dicom(FILM, WindowCenter=127.5, WindowWidth=255, VOILUTFunction="LINEAR_EXACT"),
    "inverted DICOM": dicom(255 - FILM, PhotometricInterpretation="MONOCHROME1", WindowCenter=128, WindowWidth=256),
    "JPEG 2000 DICOM": dicom(FILM, JPEG2000Lossless, WindowCenter=128, WindowWidth=256),
    "16-bit DICOM": dicom(FILM.astype(np.uint16) * 257, WindowCenter=32768, WindowWidth=65536),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_film_is_the_same_in_every_lossless_container(name):
    """And so is what the network gets, whether it takes one channel or three."""
    picture = decode(identify(CONTAINERS[name]), max_pixels=LIMIT)
    assert (np.asarray(picture.image.convert("L")) == FILM).all()
    reference = decode(identify(CONTAINERS["PNG"]), max_pixels=LIMIT)
    for channels in (1, 3):
        size = {"width": 16, "height": 16, "channels": channels, "fit": "crop"}
        assert (to_input(picture, **size) == to_input(reference, **size)).all()
    assert picture.warnings == ()


def pages(kind, **options):
    first, *others = (Image.fromarray(noise(20, 30, seed=seed)) for seed in range(3))
    return encoded(first, kind, save_all=True, append_images=others, **options)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("TIFF", {}), ("PNG", {}), ("WEBP", {"lossless": True})])
def test_of_several_frames_the_first_is_taken_and_that_is_said(kind, options):
    """An animation, or the pages of a scan; no other can be chosen."""
    picture = decode(identify(pages(kind, **options)), max_pixels=LIMIT)
    assert (np.asarray(picture.image.convert("L")) == noise(20, 30, seed=0)).all()
    assert [warning.code for warning in picture.warnings] == ["first_frame_only"]
    assert decode(identify(pages(kind, **options)), max_pixels=LIMIT, frame=1).warnings == picture.warnings
    with pytest.raises(QuestionError, match="frame 2"):
        decode(identify(pages(kind, **options)), max_pixels=LIMIT, frame=2)


def test_a_palette_with_a_transparent_colour_keeps_its_colours():
    """What is seen through is what lies there."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    for kind in ("PNG", "GIF"):
        picture = decode(identify(encoded(image, kind, transparency=1)), max_pixels=LIMIT)
        assert picture.image.convert("RGB").getpixel((0, 0)) == (10, 200, 30)


@pytest.mark.parametrize("space", ["CMYK", "YCCK"])
def test_print_colours_of_a_jpeg_are_not_inverted(space):
    """Adobe writes them the other way round, and says so."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # cyan on white paper
    data = imagecodecs.jpeg8_encode(255 - ink, level=100, colorspace="CMYK", outcolorspace=space)
    red, green, blue = decode(identify(data), max_pixels=LIMIT).image.getpixel((8, 8))
    assert red < 10
    assert min(green, blue) > 245


@pytest.mark.parametrize("channels", [0, 3])
def test_a_twelve_bit_jpeg_is_scaled(channels):
    """4095 becomes 255."""
    ramp = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    pixels = np.repeat(ramp[..., None], 3, axis=-1) if channels else ramp
    picture = decode(identify(imagecodecs.jpeg8_encode(pixels, level=100, bitspersample=12)), max_pixels=LIMIT)
    assert picture.image.mode == ("RGB" if channels else "L")
    np.testing.assert_allclose(np.asarray(picture.image.convert("L")), ramp / 4095 * 255, atol=2)


@pytest.mark.parametrize("options", [{"bitspersample": 12}, {"bitspersample": 16, "lossless": True}])
def test_a_deep_jpeg_is_counted_and_may_be_damaged(options):
    """As any other: libjpeg would fill what is missing with grey."""
    data = imagecodecs.jpeg8_encode(noise(64, 64).astype(np.uint16) * 16, **options)
    with pytest.raises(ImageTooLargeError, match="64 x 64"):
        decode(identify(data), max_pixels=64)
    for kept in (0.1, 0.5, 0.9):
        with pytest.raises(CorruptImageError):
            decode(identify(data[: int(len(data) * kept)]), max_pixels=LIMIT)
    start = data.index(b"\xff\xda") + 12
    with pytest.raises(CorruptImageError):
        decode(identify(data[: data.index(b"\xff\xc4") + 8] + data[start:]), max_pixels=LIMIT)


def test_a_deep_jpeg_of_print_colours_is_unsupported():
    """Four components of twelve bits: nobody knows how they print."""
    frame = b"\xff\xd8\xff\xc1\0\x14\x0c\0\x08\0\x08\4" + b"\1\x11\0" * 4
    with pytest.raises(UnsupportedImageError, match="4 components"):
        decode(identify(frame + b"\xff\xda\0\2\xff\xd9"), max_pixels=LIMIT)


def test_a_progressive_jpeg_is_read():
    """As browsers like them."""
    pixels = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 32, axis=0)
    picture = decode(identify(encoded(pixels, "JPEG", progressive=True, quality=95)), max_pixels=LIMIT)
    np.testing.assert_allclose(np.asarray(picture.image), pixels, atol=3)


def test_a_film_that_leaves_its_range_empty_is_remarked():
    """Twelve bits in sixteen come out nearly black: the file doesn't say that they are twelve."""
    picture = decode(identify(encoded(Image.fromarray(np.array([[0, 4095]], np.uint16)))), max_pixels=LIMIT)
    assert np.asarray(picture.image).tolist() == [[0, 16]]
    assert [warning.code for warning in picture.warnings] == ["range_unused"]
