"""Pixels and a heatmap to a picture: geometry and colours."""

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from app.errors import UnknownNameError
from app.imaging.geometry import Region, seen_region
from app.imaging.overlay import COLORMAPS, Style, colours, draw_overlay
from tests.pictures import noise


def drawn(image, heatmap, region=None, *, max_side=1024, **style):
    region = region or Region(0, 0, image.width, image.height)
    return draw_overlay(image, np.asarray(heatmap, np.float32), region, Style(**style), max_side=max_side)


def heat_of(overlay):
    """The heat of a picture that was drawn with alpha 1 in grey: 0..255."""
    return np.asarray(overlay)[..., 0].astype(float)


@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (64, 64)])
@pytest.mark.parametrize("cell", [(1, 1), (2, 4), (4, 2), (3, 3)])
def test_an_impulse_has_its_centroid_at_its_cells_centre(width, height, cell):
    """Half-pixel centres: cell (i, j) lies at ((j+½)·W/w, (i+½)·H/h), for any aspect."""
    heatmap = np.zeros((6, 6))
    heatmap[cell] = 1
    heat = heat_of(drawn(Image.new("L", (width, height)), heatmap, alpha=1.0, colormap="gray"))
    rows, columns = np.indices(heat.shape) + 0.5
    assert (heat * columns).sum() / heat.sum() == pytest.approx((cell[1] + 0.5) * width / 6, abs=1)
    assert (heat * rows).sum() / heat.sum() == pytest.approx((cell[0] + 0.5) * height / 6, abs=1)


@pytest.mark.parametrize("cell", [(0, 0), (0, 5), (5, 0), (5, 5)])
def test_an_impulse_at_the_rim_is_hottest_at_its_cells_centre(cell):
    """Nothing leaks beyond the image's edge, and nothing is shifted inwards."""
    heatmap = np.zeros((6, 6))
    heatmap[cell] = 1
    heat = heat_of(drawn(Image.new("L", (60, 60)), heatmap, alpha=1.0, colormap="gray"))
    rows, columns = np.indices(heat.shape) + 0.5
    assert (heat * columns).sum() / heat.sum() == pytest.approx((cell[1] + 0.5) * 10, abs=1)
    assert (heat * rows).sum() / heat.sum() == pytest.approx((cell[0] + 0.5) * 10, abs=1)


def test_what_a_crop_did_not_see_stays_as_it_was():
    """The margins are the image, untouched; the middle is not."""
    pixels = noise(40, 100)
    picture = np.asarray(drawn(Image.fromarray(pixels), np.ones((4, 4)), seen_region(100, 40, 8, 8, "crop")))
    for margin in (slice(0, 30), slice(70, 100)):
        assert (picture[:, margin] == pixels[:, margin, None]).all()
    assert (picture[:, 30:70] != pixels[:, 30:70, None]).any(axis=-1).all()


def test_padding_does_not_shift_the_heat():
    """With the image in the middle half of a padded square, row 1 of 4 covers the image's upper half."""
    heatmap = np.zeros((4, 4))
    heatmap[1] = 1
    heat = heat_of(
        drawn(Image.new("L", (80, 40)), heatmap, seen_region(80, 40, 8, 8, "pad"), alpha=1.0, colormap="gray")
    )
    # The row of heat is centred on y = 10 and falls to nothing within a cell's height, 20 pixels.
    expected = np.clip(1 - np.abs(np.arange(40) + 0.5 - 10) / 20, 0, 1) * 255
    np.testing.assert_allclose(heat, np.repeat(expected[:, None], 80, axis=1), atol=2)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_alpha_zero_gives_the_image_back(mode):
    """Byte for byte, grey or colour."""
    pixels = noise(33, 57, 3 if mode == "RGB" else 0)
    picture = np.asarray(drawn(Image.fromarray(pixels), np.random.default_rng(0).random((7, 7)), alpha=0.0))
    expected = pixels if mode == "RGB" else np.repeat(pixels[..., None], 3, axis=-1)
    assert (picture == expected).all()


def test_the_blend_is_linear_in_alpha():
    """overlay = (1 - alpha)·image + alpha·colour, rounded."""
    image = Image.new("RGB", (8, 8), (100, 150, 200))
    red = colours("jet")[255]
    picture = np.asarray(drawn(image, np.ones((2, 2)), alpha=0.25))
    np.testing.assert_allclose(
        picture, np.broadcast_to(0.75 * np.array([100, 150, 200]) + 0.25 * red, (8, 8, 3)), atol=0.5
    )


@pytest.mark.parametrize("height", [63, 64, 65, 131])
@pytest.mark.parametrize("channels", [0, 3])
def test_every_pixel_is_the_formulas(height, channels):
    """Grey or colour, at any height: (1 - alpha)·image + alpha·colour of its heat, rounded."""
    pixels, heatmap = noise(height, 50, channels), np.random.default_rng(1).random((5, 5))
    # In grey the heat is its own colour's number.
    bins = np.asarray(drawn(Image.new("L", (50, height)), heatmap, alpha=1.0, colormap="gray"))[..., 0]
    picture = np.asarray(drawn(Image.fromarray(pixels), heatmap, alpha=0.37))
    expected = 0.63 * pixels.reshape(height, 50, -1) + 0.37 * colours("jet")[bins]
    np.testing.assert_allclose(picture, expected, atol=0.51)


def test_jet_runs_from_blue_to_red():
    """Channels in RGB order, not BGR."""
    cold, hot = colours("jet")[[0, 255]]
    assert cold[2] > 100
    assert cold[0] == cold[1] == 0
    assert hot[0] > 100
    assert hot[1] == hot[2] == 0


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_the_colours_are_matplotlibs(colormap):
    """To a thousandth of a step."""
    expected = 255 * mpl.colormaps[colormap](np.arange(256))[:, :3]
    np.testing.assert_allclose(colours(colormap), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1500), (512, 256)), ((100, 400), (100, 400)), ((2000, 1), (512, 1))]
)
def test_the_longest_side_is_capped_and_the_aspect_kept(size, expected):
    """A small image is not blown up."""
    overlay = drawn(Image.new("L", size), np.ones((2, 2)), max_side=512)
    assert (overlay.width, overlay.height) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_the_thinnest_images_can_be_drawn(size, fit):
    """One pixel is an image."""
    overlay = drawn(Image.new("L", size), np.ones((7, 7)), seen_region(*size, 224, 224, fit), max_side=100)
    assert overlay.mode == "RGB"
    assert max(overlay.size) <= 100


@pytest.mark.parametrize("style", [{"format": "bmp"}, {"colormap": "rainbow"}])
def test_unknown_names_are_refused_with_the_valid_ones(style):
    """At once, before anything is drawn."""
    with pytest.raises(UnknownNameError, match="valid: "):
        Style(**style)


def test_a_map_of_what_lies_beside_the_image_heats_nothing():
    """As where a network looks at nothing but the padding."""
    pixels = noise(40, 60)
    picture = np.asarray(drawn(Image.fromarray(pixels), np.ones((4, 4)), Region(60, 0, 90, 40)))
    assert (picture == pixels[..., None]).all()
