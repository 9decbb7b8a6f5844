"""The border of an organ, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from app.imaging.geometry import Region
from app.imaging.outline import draw_outline


def drawn(regions, region, size=(20, 20)):
    """A grey picture with the outline, `[H, W]`."""
    picture = draw_outline(Image.new("RGB", size, (90, 90, 90)), np.asarray(regions, np.float32), region)
    pixels = np.asarray(picture)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def ring(shape, top, left, bottom, right):
    """The outermost pixels of a rectangle."""
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    mask[top + 1 : bottom - 1, left + 1 : right - 1] = False
    return mask


def test_the_line_is_white_inside_and_black_outside():
    """The whole grid belongs to the organ, so that its border is the region's: a box in the picture."""
    found = drawn(np.ones((3, 3)), Region(5, 6, 12, 16))
    white, black = ring((20, 20), 6, 5, 16, 12), ring((20, 20), 5, 4, 17, 13)
    black[[5, 5, 16, 16], [4, 12, 4, 12]] = False  # corners touch the organ only by a corner
    assert (found[white] == 255).all()
    assert (found[black] == 0).all()
    assert (found[~white & ~black] == 90).all()


def test_the_border_is_where_half_of_a_cell_belongs_to_the_organ():
    """Between the centres of a full and an empty column of two, 5 and 15, the share is a half at 10."""
    found = drawn([[1, 0], [1, 0]], Region(0, 0, 20, 20))
    assert (found[:, 9] == 255).all()
    assert (found[:, 10] == 0).all()
    assert (np.delete(found, (9, 10), axis=1) == 90).all()


def test_the_line_grows_with_the_picture():
    """One pixel up to 767, two pixels at 1024."""
    found = drawn([[1, 0]], Region(0, 0, 1024, 16), (1024, 16))
    assert np.flatnonzero(found[8] == 255).tolist() == [510, 511]
    assert np.flatnonzero(found[8] == 0).tolist() == [512, 513]


@pytest.mark.parametrize("regions", [np.zeros((4, 4)), np.full((4, 4), 0.49)])
def test_without_an_organ_nothing_is_drawn(regions):
    """The picture stays as it was."""
    assert (drawn(regions, Region(0, 0, 20, 20)) == 90).all()


def test_an_organ_that_fills_the_picture_has_no_border_in_it():
    """Its border may lie beyond the picture, as where an input was padded."""
    assert (drawn(np.ones((4, 4)), Region(-5, -5, 25, 25)) == 90).all()


def test_an_organ_beside_the_picture_is_not_drawn():
    """Nor is it an error."""
    assert (drawn(np.ones((4, 4)), Region(-30, 0, -1, 20)) == 90).all()
