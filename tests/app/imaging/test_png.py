"""The PNG writer: what Pillow reads back is what went in."""

import numpy as np
import pytest

from app.imaging.png import png
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
