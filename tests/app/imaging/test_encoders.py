"""The encoders: independent readers get back what went in."""

import io

import numpy as np
import pytest
from PIL import Image

from app.imaging.encoders import PICTURE_FORMATS, encode_picture, npy, png
from tests.pictures import constant, decoded, noise


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (40, 60), (333, 257)])
def test_every_pixel_comes_back(size):
    """Random pixels, in sizes that share no factor."""
    pixels = noise(*size, 3)
    assert (decoded(png(pixels)) == pixels).all()


def test_differences_wrap_around():
    """The filter subtracts modulo 256."""
    pixels = np.zeros((4, 2, 3), np.uint8)
    pixels[::2] = 255
    assert (decoded(png(pixels)) == pixels).all()


def test_smooth_pictures_are_small():
    """A grey megapixel takes no more than a hundredth of its pixels' bytes."""
    pixels = np.repeat(constant(7, 1000, 1000)[..., None], 3, axis=-1)
    assert len(png(pixels)) < 30_000


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_loads_what_was_written(order):
    """Float32 `[h, w]`, whatever the array's layout was; without pickles."""
    heatmap = np.asarray(np.random.default_rng(0).random((7, 5)), np.float32, order=order)
    loaded = np.load(io.BytesIO(npy(heatmap)), allow_pickle=False)
    assert loaded.dtype == np.dtype("<f4")
    assert loaded.flags.c_contiguous
    assert (loaded == heatmap).all()


@pytest.mark.parametrize("name", PICTURE_FORMATS)
def test_a_picture_is_encoded_in_the_format_asked_for(name):
    """Pillow opens it as that; the lossy ones are close."""
    pixels = np.repeat(constant(90, 30, 50)[..., None], 3, axis=-1)
    encoded = encode_picture(Image.fromarray(pixels), name)
    assert (encoded.media_type, encoded.width, encoded.height) == (f"image/{name}", 50, 30)
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert image.format == name.upper()
        assert np.abs(np.asarray(image).astype(int) - 90).max() <= 2
