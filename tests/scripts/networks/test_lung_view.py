"""Finding the lungs and cropping to them inside the graph, compared with SciPy and Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from scripts.networks.lung_view import CropToBox, LargestParts, LungBox, lung_view
from scripts.networks.segmenter import lung_segmenter


def largest_parts(mask, count=2):
    """What SciPy says; of parts of equal size, the one that ends later wins."""
    labels, number = ndimage.label(mask, np.ones((3, 3)))
    flat = labels.ravel()
    ranked = sorted(range(1, number + 1), key=lambda one: ((flat == one).sum(), np.flatnonzero(flat == one)[-1]))
    return np.isin(labels, ranked[-count:]) & mask


def spiral(side):
    """A corridor of one pixel that winds to the middle: the longest way that labels may have to go."""
    mask = np.zeros((side, side), bool)
    y, x, dy, dx, length = 0, 0, 0, 1, side - 1
    mask[0, 0] = True
    while length > 0:
        for turn in range(3 if length == side - 1 else 2):
            for _ in range(length):
                y, x = y + dy, x + dx
                mask[y, x] = True
            dy, dx = dx, -dy
            del turn
        length -= 2
    return mask


@pytest.mark.parametrize("density", [0.2, 0.35, 0.41, 0.5, 0.65])
def test_the_largest_parts_are_scipys(density):
    """On random masks from sparse dots to one winding part, each image by itself."""
    masks = np.random.default_rng(round(100 * density)).random((6, 32, 24)) < density
    found = np.asarray(LargestParts()(masks.astype(np.float32)))
    for mask, kept in zip(masks, found, strict=True):
        np.testing.assert_array_equal(kept > 0, largest_parts(mask))


def test_the_longest_way_is_followed_to_its_end():
    """A spiral is one part, whatever its length; without a pixel in its middle it is two."""
    whole = spiral(32)
    assert ndimage.label(whole, np.ones((3, 3)))[1] == 1
    np.testing.assert_array_equal(LargestParts(count=1)(whole[None].astype(np.float32))[0] > 0, whole)
    cut = whole.copy()
    cut[0, 16] = False
    found = LargestParts(count=1)(cut[None].astype(np.float32))[0] > 0
    np.testing.assert_array_equal(found, largest_parts(cut, 1))
    assert found.numpy().sum() < cut.sum()


def test_without_parts_there_is_nothing_to_keep():
    """An empty mask stays empty."""
    assert not np.asarray(LargestParts()(np.zeros((1, 8, 8), np.float32))).any()


def lungs_of(*boxes, side=128):
    """A lung map with rectangles (left, top, right, bottom) in pixels."""
    lungs = np.zeros((1, side, side, 1), np.float32)
    for left, top, right, bottom in boxes:
        lungs[0, top:bottom, left:right] = 1
    return lungs


def test_the_box_is_a_square_around_the_two_largest_parts():
    """Lungs from 20 to 100 across and 30 to 90 down: a square of 80·1.08 around (60, 60); the speck doesn't count."""
    lungs = lungs_of((20, 30, 50, 90), (70, 40, 100, 90), (120, 2, 126, 6))
    half = 80 * 1.08 / 2
    np.testing.assert_allclose(LungBox()(lungs)[0][0] * 128, [60 - half, 60 - half, 60 + half, 60 + half], rtol=1e-5)


def test_a_box_that_stands_out_is_moved_into_the_input():
    """It keeps its size, and is never larger than the input."""
    box = np.asarray(LungBox()(lungs_of((0, 10, 40, 60), (50, 10, 80, 60)))[0])[0]
    np.testing.assert_allclose(box, [0, 0, 86.4 / 128, 86.4 / 128], atol=1e-6)
    np.testing.assert_allclose(LungBox()(lungs_of((0, 0, 60, 128), (68, 0, 128, 128)))[0], [[0, 0, 1, 1]], atol=1e-6)


def test_without_lungs_the_box_is_the_whole_input():
    """Nothing, or a part that is too small, in one image does not touch the other."""
    nothing, speck = lungs_of(), lungs_of((50, 50, 60, 60))
    lungs = lungs_of((20, 30, 50, 90))
    boxes, masks = (np.asarray(output) for output in LungBox()(np.concatenate([nothing, speck, lungs])))
    np.testing.assert_array_equal(boxes[:2], [[0, 0, 1, 1]] * 2)
    assert not masks[:2].any()
    np.testing.assert_array_equal(masks[2], lungs[0])
    np.testing.assert_allclose(boxes[2], LungBox()(lungs)[0][0])
    assert boxes[2, 2] < 1


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.25, 0.125, 0.75, 0.625), (0.1, 0.2, 0.9, 1.0)])
def test_a_crop_is_what_pillow_resamples(box):
    """Away from the box's edges, where Pillow does not look beyond it."""
    image = np.random.default_rng(3).random((96, 96)).astype(np.float32) * 255
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, tuple(96 * edge for edge in box))
    crop = CropToBox(32)((image[None, ..., None], np.array([box], np.float32)))
    np.testing.assert_allclose(crop[0, 2:-2, 2:-2, 0], np.asarray(expected)[2:-2, 2:-2], atol=0.05)


def test_channels_are_cropped_alike():
    """A crop in colour is the crops of its channels."""
    images = np.random.default_rng(4).random((2, 20, 20, 3)).astype(np.float32)
    boxes = np.array([[0, 0, 0.5, 0.5], [0.3, 0.2, 0.9, 0.8]], np.float32)
    together = CropToBox(8)((images, boxes))
    for channel in range(3):
        np.testing.assert_allclose(
            together[..., channel], CropToBox(8)((images[..., channel : channel + 1], boxes))[..., 0], rtol=1e-5
        )


def test_a_view_is_a_crop_its_box_and_the_lungs_inside():
    """Images of a batch are seen by themselves, and in the graph as outside it."""
    view = lung_view(lung_segmenter(0, 32, (4, 8)), 64, 48)
    images = np.random.default_rng(5).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    crop, box, lungs = tf.function(view)(images)
    assert crop.shape == (3, 48, 48, 3)
    assert box.shape == (3, 4)
    assert lungs.shape == (3, 48, 48, 1)
    assert 0 <= float(tf.reduce_min(lungs)) <= float(tf.reduce_max(lungs)) <= 1
    for row in range(3):
        for together, alone in zip((crop, box, lungs), view(images[row : row + 1]), strict=True):
            np.testing.assert_allclose(together[row], alone[0], atol=2e-3)


def test_a_segmenter_of_another_resolution_is_refused():
    """Rather than shown an image of another size."""
    with pytest.raises(ValueError, match="does not divide 100"):
        lung_view(lung_segmenter(0, 32, (4, 8)), 100, 48)
