"""Heatmaps of two versions on one grid, against the cells themselves and against the overlay."""

import numpy as np
import pytest
from PIL import Image

from app.imaging.geometry import Region, seen_region
from app.imaging.overlay import Style, draw_overlay
from scripts.comparing.placement import PlacedMap, heat_region, on_common_grid
from tests.doubles import manifest


def random_map(shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("region", [Region(0, 0, 97, 61), Region(13, 0, 74, 61), Region(20.3, 7.7, 41.9, 55.1)])
def test_maps_with_the_same_cells_are_compared_cell_by_cell(region):
    """Nothing is interpolated, so cells without heat stay without."""
    one, other = random_map((7, 5)), random_map((7, 5), 1)
    one[2:4] = 0
    heat, other_heat = on_common_grid(PlacedMap(one, region), PlacedMap(other, region), 97, 61)
    np.testing.assert_array_equal(heat, one.ravel())
    np.testing.assert_array_equal(other_heat, other.ravel())


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.125, 0.25, 0.875, 0.75), (-0.125, 0, 1.25, 1)])
def test_heat_lies_where_the_overlay_shows_it(fit, box):
    """At every pixel of the image, to the overlay's 256 steps; what a map does not reach has no heat."""
    width, height = 48, 24  # all edges lie between pixels
    region = seen_region(width, height, 16, 16, fit).part(box)
    one = PlacedMap(random_map((4, 5)), region)
    pixels = PlacedMap(np.ones((height, width), np.float32), Region(0, 0, width, height))
    heat, _ = on_common_grid(one, pixels, width, height)
    style = Style(alpha=1, colormap="gray")
    drawn = draw_overlay(Image.new("L", (width, height)), one.values, region, style, max_side=width)
    np.testing.assert_allclose(heat.reshape(height, width), np.asarray(drawn)[..., 0] / 255, atol=1.5 / 255)


def test_the_smaller_cells_decide_and_heat_beyond_a_crop_is_compared_with_none():
    """A version that crops the middle half, in two cells; the other sees all, in two cells of twice the size."""
    whole = PlacedMap(np.array([[0.0, 1.0]], np.float32), Region(0, 0, 8, 4))
    middle = PlacedMap(np.array([[1.0, 0.5]], np.float32), Region(2, 0, 6, 4))
    heat, cropped = on_common_grid(whole, middle, 8, 4)
    np.testing.assert_allclose(heat, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(cropped, [0, 1, 0.5, 0])


def test_places_that_neither_reaches_are_left_out():
    """Two corners of an image: their cells, and nothing of the rest."""
    one = PlacedMap(np.ones((1, 1), np.float32), Region(0, 0, 2, 2))
    other = PlacedMap(np.ones((1, 1), np.float32), Region(8, 8, 10, 10))
    heat, other_heat = on_common_grid(one, other, 10, 10)
    assert sorted(zip(heat.tolist(), other_heat.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_padding_is_left_out():
    """Of a wide image padded to a square, the rows above and below it are no part of the image."""
    region = seen_region(8, 4, 8, 8, "pad")
    rows = np.repeat(np.array([9, 9, 1, 2, 3, 4, 9, 9], np.float32)[:, None] / 10, 8, axis=1)
    heat, _ = on_common_grid(PlacedMap(rows, region), PlacedMap(rows, region), 8, 4)
    np.testing.assert_allclose(heat.reshape(4, 8)[:, 0], [0.1, 0.2, 0.3, 0.4], rtol=1e-5)


def test_a_tiny_part_does_not_make_a_huge_grid():
    """A version that looks at a thousandth of the image, in many cells."""
    whole = PlacedMap(random_map((7, 7)), Region(0, 0, 1000, 1000))
    part = PlacedMap(random_map((14, 14)), Region(500, 500, 510, 510))
    assert len(on_common_grid(whole, part, 1000, 1000)[0]) == 256 * 256


def test_the_region_of_the_features_is_that_of_the_manifest():
    """A crop by the fit, and of it the part that the network keeps."""
    described = manifest(fit="crop")
    assert heat_region(described, 20, 10, None) == Region(5, 0, 15, 10)
    layer = described.feature_layer.model_copy(update={"region": (0.1, 0.0, 0.9, 0.5)})
    assert heat_region(described.model_copy(update={"feature_layer": layer}), 20, 10, None) == Region(6, 0, 14, 5)


def test_the_region_of_a_model_that_crops_by_itself_is_its_answer():
    """In shares of the input, which is a crop of the image."""
    box = np.array([0.5, 0.0, 1.0, 0.25], np.float32)
    assert heat_region(manifest(fit="crop"), 20, 10, box) == Region(10, 0, 15, 2.5)
