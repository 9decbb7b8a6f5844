"""Variants of training films."""

import numpy as np

from scripts.training.augmentation import augment
from tests.pictures import noise


def variants(count, film, size, mask=None):
    return [augment(film, np.random.default_rng(seed), size, mask=mask) for seed in range(count)]


def test_a_variant_is_a_film_of_the_size_asked():
    """Grey, 8 bits, whatever was drawn."""
    for film, mask in variants(40, noise(64, 64), 48):
        assert (film.shape, film.dtype) == ((48, 48), np.uint8)
        assert mask is None


def test_a_variant_depends_on_its_seed_alone():
    """Training can be repeated."""
    (first, _), (second, _) = variants(2, noise(64, 64), 48)
    (again, _), _ = variants(2, noise(64, 64), 48)
    assert (first == again).all()
    assert (first != second).any()


def test_the_mask_moves_with_the_film():
    """Where the mask is, the disc is, wherever both were moved; only markers and noise fall out of step."""
    rows, columns = np.indices((128, 128))
    disc = (((rows - 50) ** 2 + (columns - 70) ** 2 < 400) * 255).astype(np.uint8)
    agreements = []
    for film, mask in variants(40, disc // 2 + 40, 96, disc):
        inside, outside = film[mask > 200].mean(), film[mask < 50].mean()
        agreements.append(inside > outside)
        assert 0.04 < (mask > 127).mean() < 0.2
    assert np.mean(agreements) > 0.9


def test_strength_zero_leaves_the_film_or_its_mirror_image():
    """Within what JPEG keeps."""
    film = np.repeat(np.linspace(20, 230, 64, dtype=np.uint8)[None], 64, axis=0)
    for seed in range(10):
        variant, _ = augment(film, np.random.default_rng(seed), 64, 0.0)
        differences = [np.abs(variant.astype(int) - other).mean() for other in (film, film[:, ::-1])]
        assert min(differences) < 4


def test_half_of_the_variants_are_mirrored():
    """A left half that is bright turns up on the right about as often."""
    film = np.full((64, 64), 30, np.uint8)
    film[:, :32] = 200
    left = [variant[:, :16].mean() > variant[:, -16:].mean() for variant, _ in variants(200, film, 32)]
    assert 0.35 < np.mean(left) < 0.65
