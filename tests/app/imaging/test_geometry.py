"""Which part of an image the network sees."""

import pytest

from app.imaging.geometry import Region, seen_region


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("squash", Region(0, 0, 100, 60)),
        ("crop", Region(20, 0, 80, 60)),
        ("pad", Region(0, -20, 100, 80)),
    ],
)
def test_a_wide_image_meets_a_square_input(fit, expected):
    """Squashing sees all of it, cropping its middle, padding all of it and a margin."""
    assert seen_region(100, 60, 20, 20, fit) == expected


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_an_image_of_the_inputs_aspect_is_seen_whole(fit):
    """No way of fitting changes an image that fits."""
    assert seen_region(80, 40, 16, 8, fit) == Region(0, 0, 80, 40)


def test_a_crop_keeps_at_least_one_pixel():
    """A line one pixel high still has a region."""
    region = seen_region(1000, 1, 224, 224, "crop")
    assert (region.width, region.height) == (1, 1)


def test_padding_lies_in_whole_pixels_of_the_input():
    """100 x 60 in 8 x 8 is 8 x 5, one row of padding above and two below: a row is 12 pixels high."""
    assert seen_region(100, 60, 8, 8, "pad") == Region(0, -12, 100, 84)


def test_a_part_of_a_region_is_given_in_shares():
    """Of the region's own size, from its own corner; it may reach outside."""
    assert Region(10, 20, 50, 100).part((0.25, 0.5, 0.75, 1.25)) == Region(20, 60, 40, 120)


@pytest.mark.parametrize(
    ("region", "meets"),
    [
        (Region(0, 0, 10, 10), True),
        (Region(-5, -5, 0.1, 30), True),
        (Region(20, 0, 30, 10), False),
        (Region(0, -9, 20, 0), False),
    ],
)
def test_a_region_may_lie_outside_the_image(region, meets):
    """An edge alone is not inside of 20 x 10 pixels."""
    assert region.meets(20, 10) is meets


def test_a_region_is_a_part_of_its_image():
    """The part gives the region back."""
    region = Region(5, -2, 25, 8)
    assert region.box(20, 10) == (0.25, -0.2, 1.25, 0.8)
    assert Region(0, 0, 20, 10).part(region.box(20, 10)) == region
