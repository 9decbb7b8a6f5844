"""What an encoded image announces, and what its structure would cost."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImageError, ImageTooLargeError
from app.imaging.decoding import decode
from app.imaging.headers import first_gif_frame, identify, sniff
from app.imaging.jpeg import exif_orientation, jpeg_frame
from app.imaging.jpeg2000 import codestream
from app.imaging.tiff import first_tiff_page
from tests.dicoms import dicom
from tests.pictures import encoded, noise

LIMIT = 1_000_000


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"II*\0" + b"\0" * 124 + b"DICM", "DICOM"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "DICOM"),
        (b"\x08\0\x16\0\x1a\0\0\0" + b"1.2.840.10008.5.1.4.1.1.1\0", "DICOM"),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", "DICOM"),
        (b"\x02\0\0\0UL\x04\0\0\0\0\0", "DICOM"),
        (b"\x08\0\x05\0\xff\xff\xff\xff", None),
        (b"\x08\0\x05", None),
        (b"\0" * 200, None),
        (b"GIF90a", None),
        (b'{"image": ""}', None),
    ],
)
def test_kinds_are_known_by_their_first_bytes(start, kind):
    """A DICOM object also where another magic stands in its preamble, or where it has none."""
    assert sniff(start) == kind


@pytest.mark.parametrize(
    ("options", "marker", "precision"),
    [
        ({"level": 90}, 0xC0, 8),
        ({"bitspersample": 12}, 0xC1, 12),
        ({"lossless": True, "bitspersample": 16}, 0xC3, 16),
    ],
)
def test_a_jpeg_tells_its_size_and_depth(options, marker, precision):
    """Without being decoded."""
    pixels = np.zeros((20, 30), np.uint8 if precision == 8 else np.uint16)
    frame = jpeg_frame(imagecodecs.jpeg8_encode(pixels, **options))
    assert (frame.marker, frame.precision, frame.width, frame.height, frame.components) == (
        marker,
        precision,
        30,
        20,
        1,
    )
    assert frame.lossless == (marker == 0xC3)


def test_thumbnails_inside_a_jpeg_are_not_its_frame():
    """They lie inside of a note, which is stepped over."""
    thumbnail = encoded(noise(8, 8), "JPEG")
    data = encoded(noise(20, 30), "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert jpeg_frame(data).width == 30


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff\xfe\0\2" * 20_000,
        b"\xff\xd8\xff\xda\0\2",
        b"\xff\xd8" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\xda" * 101,
    ],
)
def test_a_jpeg_without_a_frame_is_corrupt(data):
    """However long one would have to look for it."""
    with pytest.raises(CorruptImageError):
        jpeg_frame(data)


def test_a_jpeg_2000_tells_its_size():
    """The size of its area, not of the grid that it lies on."""
    found = codestream(imagecodecs.jpeg2k_encode(noise(64, 96), codecformat="j2k"))
    assert (found.width, found.height, found.components, found.precision) == (96, 64, 1, 8)
    with pytest.raises(CorruptImageError):
        codestream(b"\xff\x4f\xff\x52" + b"\0" * 50)


def gif_with(blocks: bytes) -> bytes:
    data = encoded(noise(20, 30), "GIF")
    start = data.index(b"\x2c", 13 + 768)
    return data[:start] + blocks + data[start:]


def test_comments_in_a_gif_are_left_out():
    """Millions of one byte each would be joined one by one."""
    data, several = first_gif_frame(gif_with(b"\x21\xfe" + b"\1x" * 100_000 + b"\0"))
    assert len(data) < 3000
    assert not several
    assert (np.asarray(Image.open(io.BytesIO(data)).convert("L")) == noise(20, 30)).all()


def test_a_comma_after_the_picture_is_no_second_one():
    """A comment may hold any byte."""
    comment = b"\x21\xfe\x04a,b,\0"
    data = encoded(noise(20, 30), "GIF")
    assert first_gif_frame(data[:-1] + comment + b"\x3b")[1] is False
    assert first_gif_frame(data[:-1] + comment + data[data.index(b"\x2c", 13 + 768) :])[1] is True


@pytest.mark.parametrize("blocks", [b"\x21\xfe" + b"\1x" * 600_000 + b"\0", b"\x21\xfe\0" * 2_000])
def test_a_gif_of_nothing_but_blocks_is_refused(blocks):
    """A walk that is bounded."""
    with pytest.raises(CorruptImageError):
        first_gif_frame(gif_with(blocks))


def test_a_gif_picture_larger_than_its_screen_is_counted():
    """Pillow widens the canvas to hold it."""
    data = bytearray(encoded(noise(20, 30), "GIF"))
    start = data.index(b"\x2c", 13 + 768)
    data[start + 5 : start + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(ImageTooLargeError, match="60000 x 60000"):
        decode(identify(bytes(data)), max_pixels=LIMIT)


def tiff(*entries: tuple[int, int, int, int], link: int = 0) -> bytes:
    """A little-endian directory of (tag, type, count, value)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + struct.pack("<I", link)


def test_tags_that_claim_more_than_the_file_are_refused():
    """A thousand that all point to the same ten megabytes would be read into ten gigabytes."""
    entries = [(40_000 + number, 1, 10_000_000, 0) for number in range(1000)]
    with pytest.raises(CorruptImageError):
        first_tiff_page(tiff(*entries) + b"\0" * 10_000_000, LIMIT)


def test_a_tile_larger_than_any_image_is_refused():
    """Memory for a tile is taken whole, however small the image."""
    with pytest.raises(ImageTooLargeError, match="tiles"):
        first_tiff_page(tiff((322, 4, 1, 60_000), (323, 3, 1, 60_000)), LIMIT)
    assert first_tiff_page(tiff((322, 4, 1, 512), (323, 3, 1, 512)), LIMIT)[1] is False


def test_pages_after_the_first_are_cut_off():
    """A chain of a million pages would be walked to its end."""
    data, several, _ = first_tiff_page(tiff((256, 3, 1, 1), link=8), LIMIT)
    assert several
    assert data == tiff((256, 3, 1, 1))


@pytest.mark.parametrize("data", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\xff\xff", tiff((1, 1, 1, 1))[:-8]])
def test_a_truncated_directory_is_corrupt(data):
    """Wherever it was cut."""
    with pytest.raises(CorruptImageError):
        first_tiff_page(data, LIMIT)


def exif(order: str, *entries: tuple[int, int, int]) -> bytes:
    rows = b"".join(struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + rows + b"\0\0\0\0"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_orientation_is_found(order, prefix):
    """In either byte order, among other tags."""
    assert exif_orientation(prefix + exif(order, (0x010F, 2, 0), (0x0112, 3, 6))) == 6


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        exif("<", (0x0112, 3, 9)),
        exif("<", (0x0112, 2, 6)),
        exif("<", (0x010F, 3, 6)),
        exif("<", (0x0112, 3, 6))[:15],
    ],
)
def test_an_orientation_that_can_not_be_read_says_nothing(block):
    """The film is as good as without."""
    assert exif_orientation(block) is None


def test_a_dicom_object_in_a_tiff_is_the_dicom_object():
    """Its preamble may be the head of a TIFF, for readers that know no DICOM."""
    data = b"II*\0" + dicom(noise(20, 30))[4:]
    assert decode(identify(data), max_pixels=LIMIT).format == "DICOM"
