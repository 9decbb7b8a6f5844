"""Cells over a region of an image, by hand."""

import numpy as np
import pytest

from app.imaging.geometry import Region
from app.imaging.grid import cells_of, interpolation, overlaps, visible_window


def test_the_pixels_of_a_region_are_those_with_their_centre_in_it():
    """At least one, however narrow it is, and none outside of the image."""
    assert visible_window(Region(1.4, 2.6, 7.4, 9.0), (10, 8)) == (1, 3, 7, 8)
    assert visible_window(Region(3.1, 3.1, 3.2, 3.2), (10, 8)) == (3, 3, 4, 4)
    assert visible_window(Region(-20, -20, 30, 30), (10, 8)) == (0, 0, 10, 8)


def test_each_pixel_belongs_to_the_cell_that_contains_its_centre():
    """Two cells over 1..7 meet at 4, so that the pixel from 3.5 to 4.5 has its centre in the second."""
    assert cells_of(2, 1, 6, range(1, 7)).tolist() == [0, 0, 0, 1, 1, 1]
    assert cells_of(2, 0.5, 7, range(1, 7)).tolist() == [0, 0, 0, 1, 1, 1]
    assert cells_of(2, 0, 7, range(3, 4)).tolist() == [1]
    assert cells_of(3, 0, 9, range(9)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_values_are_interpolated_between_the_centres_of_cells():
    """A ramp of two cells over four pixels: flat beyond the centres, a quarter and three quarters between them."""
    down, across = interpolation((1, 2), Region(0, 0, 4, 1), (0, 0, 4, 1))
    assert down.tolist() == [[1]]
    np.testing.assert_allclose(np.array([0, 1]) @ across.T, [0, 0.25, 0.75, 1])


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 4, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
        (0.5, 3.5, [[1 / 3, 2 / 3, 0, 0], [0, 0, 2 / 3, 1 / 3]]),
        (-2, 2, [[0, 0, 0, 0], [0.5, 0.5, 0, 0]]),
    ],
)
def test_a_cell_is_shared_by_the_pixels_that_cover_it(start, stop, expected):
    """Also by parts of pixels; no pixel covers what is outside."""
    np.testing.assert_allclose(overlaps(2, start, stop, 4), expected)
