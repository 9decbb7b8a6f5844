"""What the lung segmenter is trained on, and its measure."""

import numpy as np
import pytest

from scripts.datasets.films import read_films
from scripts.training.segmentation import SegmentationRecipe, dice, overlap_loss, read_masked, training_pictures
from tests.films import write_table


def test_dice_by_hand():
    """Two of three pixels in common with four: 2·2 / (3 + 4); nothing found where there is nothing is right."""
    mask, found = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    mask[0, :3] = True
    found[0, 1:] = found[1, 0] = True
    assert dice(mask, found) == pytest.approx(4 / 7)
    assert dice(mask, mask) == 1
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 1
    assert dice(np.ones(3, bool), np.zeros(3, bool)) == 0


def test_the_loss_is_least_for_the_mask_itself():
    """For each picture by itself, also where the mask is empty."""
    masks = np.zeros((2, 8, 8, 1), np.float32)
    masks[0, :4] = 1
    right, wrong = (np.asarray(overlap_loss(masks, found)) for found in (masks, 1 - masks))
    assert right.shape == (2,)
    np.testing.assert_allclose(right, 0, atol=1e-5)
    assert (wrong > 1).all()


def test_some_pictures_have_no_lungs(tmp_path):
    """The same in every run; the others have the mask that moved with them."""
    films = read_films(write_table(tmp_path, patients=20, films_each=1, masks=True))
    pixels, masks = read_masked(films)
    images, targets = training_pictures(pixels, masks, SegmentationRecipe(variants=3, seed=4))
    assert images.shape == targets.shape == (60, 128, 128, 1)
    empty = [not target.any() for target in targets]
    assert 2 <= sum(empty) <= 20
    bright = [
        image[target > 0].mean() > image[target == 0].mean()
        for image, target in zip(images, targets, strict=True)
        if target.any()
    ]
    assert np.mean(bright) > 0.9
    again, _ = training_pictures(pixels, masks, SegmentationRecipe(variants=3, seed=4))
    np.testing.assert_array_equal(images, again)
