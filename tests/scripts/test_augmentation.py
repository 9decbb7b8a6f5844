"""Variants of training films."""

import numpy as np

from scripts.augmentation import augment
from tests.pictures import noise


def variants(count, pixels):
    return [augment(pixels, np.random.default_rng(seed)) for seed in range(count)]


def test_a_variant_is_a_film_of_the_same_shape():
    """Grey stays grey, in the same range."""
    pixels = np.repeat(noise(32, 32)[..., None], 3, axis=-1)
    for variant in variants(20, pixels):
        assert (variant.shape, variant.dtype) == (pixels.shape, np.uint8)
        assert (variant[..., 0] == variant[..., 2]).all()


def test_a_variant_depends_on_its_seed_alone():
    """Training can be repeated."""
    pixels = noise(32, 32, 1)
    first, second = variants(2, pixels), variants(2, pixels)
    assert (first[0] == second[0]).all()
    assert (first[0] != first[1]).any()


def test_variants_keep_what_is_in_the_middle():
    """A disc stays where it was, within the shift, the scale and the rotation that are allowed, or their mirror."""
    rows, columns = np.indices((64, 64))
    disc = (((rows - 32) ** 2 + (columns - 32) ** 2 < 100) * 200).astype(np.uint8)[..., None]
    for variant in variants(30, disc):
        assert variant[28:36, 28:36].mean() > variant.mean()
