"""TIFF of every depth, order and layout: the right pixels, or the true reason."""

import struct

import numpy as np
import pytest

from app.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from app.imaging.decoding import decode
from app.imaging.headers import identify
from tests.pictures import noise
from tests.tiffs import GREY, RGB, WHITE_IS_ZERO, tiff

LIMIT = 1_000_000
ORDERS = ["<", ">"]


def film(bits: int, samples: int = 0, seed: int = 0) -> np.ndarray:
    shape = (21, 35, samples) if samples else (21, 35)
    return np.random.default_rng(seed).integers(0, 2**bits, shape, np.uint16)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode(identify(data), max_pixels=LIMIT).image)


def expected(values: np.ndarray, bits: int) -> np.ndarray:
    return np.floor(values.astype(float) * 255 / (2**bits - 1) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 9, 10, 12, 14, 15, 16])
def test_grey_of_any_depth_is_scaled_by_its_range(bits, order, big):
    """In either polarity, of either byte order, BigTIFF or not."""
    values = film(bits)
    assert (shown(tiff(values, bits, order=order, big=big)) == expected(values, bits)).all()
    inverted = tiff(2**bits - 1 - values, bits, order=order, big=big, photometric=WHITE_IS_ZERO)
    assert (shown(inverted) == expected(values, bits)).all()


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_colour_lies_by_pixel_or_by_plane(bits, order, planar):
    """Planar configuration 2 of 16 bits is another picture if it is read as 1."""
    values = film(bits, 3)
    assert (shown(tiff(values, bits, photometric=RGB, order=order, planar=planar)) == expected(values, bits)).all()


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize(("photometric", "colours"), [(GREY, 1), (WHITE_IS_ZERO, 1), (RGB, 3)])
def test_an_alpha_channel_of_16_bits_is_dropped(photometric, colours, planar):
    """Beside grey and beside colours."""
    values = film(16, colours + 1)
    data = tiff(values, 16, photometric=photometric, planar=planar)
    kept = values[..., :colours].squeeze()
    assert (shown(data) == expected(65535 - kept if photometric == WHITE_IS_ZERO else kept, 16)).all()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("bits", "samples", "compression", "predictor"),
    [
        *((16, samples, *how) for samples in (0, 3) for how in ((5, 1), (5, 2), (8, 1), (8, 2), (32773, 1))),
        *((12, 0, compression, 1) for compression in (5, 8, 32773)),
    ],
)
def test_compressed_strips(bits, samples, compression, predictor, order, big):
    """LZW, deflate and PackBits, with differences or without."""
    values = film(bits, samples)
    data = tiff(
        values,
        bits,
        photometric=RGB if samples else GREY,
        order=order,
        big=big,
        compression=compression,
        predictor=predictor,
    )
    assert (shown(data) == expected(values, bits)).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("big", [False, True])
def test_it_is_upright_and_of_several_pages_the_first(bits, big):
    """At any depth: orientation 6 turns a quarter clockwise."""
    values = film(bits)
    picture = decode(identify(tiff(values, bits, big=big, tags=[(274, 6)], pages=2)), max_pixels=LIMIT)
    assert (np.asarray(picture.image) == np.rot90(expected(values, bits), -1)).all()
    assert [warning.code for warning in picture.warnings] == ["first_frame_only"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(film(16), 16, tags=[(339, 2)]), "signed whole numbers of 16 bits"),
        (tiff(noise(20, 30), 8, tags=[(339, 2)]), "signed whole numbers of 8 bits"),
        (tiff(film(16), 16, tags=[(339, 3)]), "floating-point numbers of 16 bits"),
        (tiff(film(16).astype(np.uint32), 32), "32 bits have no known range"),
        (tiff(film(16, 4), 16, photometric=5), "PhotometricInterpretation 5"),
        (tiff(film(16, 9), 16), "9 samples"),
    ],
)
def test_pixels_without_a_known_meaning_are_refused_for_the_true_reason(data, reason):
    """Not as damaged."""
    with pytest.raises(UnsupportedImageError, match=reason):
        shown(data)


@pytest.mark.parametrize("bits", [8, 14, 16])
@pytest.mark.parametrize("big", [False, True])
def test_size_is_counted_and_damage_is_said(bits, big):
    """Before and after decoding, whichever decoder takes it."""
    data = tiff(film(bits), bits, big=big, compression=8)
    with pytest.raises(ImageTooLargeError, match="35 x 21"):
        decode(identify(data), max_pixels=700)
    for kept in (0.2, 0.6, 0.95):
        with pytest.raises(CorruptImageError, match="truncated or damaged"):
            shown(data[: int(len(data) * kept)])
    broken = bytearray(data)
    broken[20:60] = b"\xff" * 40
    with pytest.raises(CorruptImageError, match="truncated or damaged"):
        shown(bytes(broken))


def test_a_big_directory_is_bounded():
    """As a small one is: it can't claim more entries, or longer ones, than the file has room for."""
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16)
    for rest in (struct.pack("<Q", 2**60), struct.pack("<QHHQQQ", 1, 40_000, 1, 2**50, 0, 0)):
        with pytest.raises(CorruptImageError):
            shown(head + rest)


def test_a_film_that_fills_little_of_16_bits_is_said_so_whatever_its_decoder():
    """Nothing is guessed; the warning says what to do."""
    picture = decode(identify(tiff(film(12), 16)), max_pixels=LIMIT)
    assert [warning.code for warning in picture.warnings] == ["range_unused"]
    narrow = decode(identify(tiff(30_000 + film(10), 16)), max_pixels=LIMIT)
    assert [warning.code for warning in narrow.warnings] == ["low_contrast"]
