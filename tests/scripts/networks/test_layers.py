"""The layers of our own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from scripts.networks.layers import Affine, Equalise, LungGate, Moments, Novelty, RadialBasis
from tests.pictures import noise


def test_equalising_is_blind_to_exposure():
    """Without a limit, a film and the same film darkened come out alike."""
    shades = (np.indices((32, 32)).sum(axis=0) * 4).astype(np.float32)[None, :, :, None]
    free = Equalise(tiles=4, clip=256.0)
    np.testing.assert_allclose(free(shades), free(shades / 2), atol=1e-3)


def test_equalising_raises_contrast_within_the_limit():
    """Two near greys move apart, but not to black and white."""
    film = np.where(noise(32, 32) > 127, 120, 130).astype(np.float32)[None, :, :, None]
    equalised = np.asarray(Equalise(tiles=4, clip=2.0)(film))
    low, high = equalised[film == 120].mean(), equalised[film == 130].mean()
    assert 10 < high - low < 30


def test_equalising_clips_as_computed_by_hand():
    """One tile of 16 pixels, all grey 100, limit 2·16/256 = 0.125: the rest, 15.875, is spread over 256 bins."""
    film = np.full((1, 4, 4, 1), 100, np.float32)
    expected = (101 * 15.875 / 256 + 0.125) * 255 / 16
    np.testing.assert_allclose(Equalise(tiles=1, clip=2.0)(film), np.full((1, 4, 4, 1), expected), rtol=1e-5)


def test_equalising_treats_rows_alone_and_colour_as_grey():
    """A batch is its images; three channels come out equal."""
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.float32)
    together = np.asarray(Equalise(tiles=2)(batch))
    assert (together[..., 0] == together[..., 2]).all()
    for row in range(3):
        np.testing.assert_allclose(Equalise(tiles=2)(batch[row : row + 1])[0], together[row], rtol=1e-6)


def test_sides_that_tiles_do_not_divide_are_refused():
    """Rather than padded with what is no film."""
    with pytest.raises(ValueError, match="multiples of 8"):
        Equalise(tiles=8)(np.zeros((1, 20, 16, 1), np.float32))


def test_the_gates_average_is_the_lungs_average():
    """With a map of zeros and ones, pooling the gated features is pooling the lungs'."""
    rng = np.random.default_rng(1)
    features = rng.random((2, 4, 4, 3)).astype(np.float32)
    lungs = (rng.random((2, 4, 4, 1)) > 0.5).astype(np.float32)
    gated = np.asarray(LungGate()((features, lungs)))
    for row in range(2):
        inside = features[row][lungs[row, ..., 0] == 1].mean(axis=0)
        np.testing.assert_allclose(gated[row].mean(axis=(0, 1)), inside, rtol=0.02)


def test_a_gate_without_lungs_is_open():
    """Nothing is divided by zero; all cells vote alike."""
    features = np.random.default_rng(2).random((1, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(LungGate()((features, np.zeros((1, 4, 4, 1), np.float32))), features, rtol=1e-5)


def test_a_finer_lung_map_is_averaged_onto_the_features():
    """Each feature cell gets the share of lung that lies in it."""
    lungs = np.zeros((1, 4, 4, 1), np.float32)
    lungs[:, :2, :2] = 1
    gated = np.asarray(LungGate()((np.ones((1, 2, 2, 1), np.float32), lungs)))[0, ..., 0]
    np.testing.assert_allclose(gated, [[4, 0], [0, 0]], atol=0.05)


def test_novelty_is_the_root_mean_square_of_whitened_distances():
    """Mean (1, 2), deviations (2, 4): a film of (5, 2) lies two deviations off in one of two directions."""
    layer = Novelty()
    layer.build((None, 1, 1, 2))
    layer.set_weights([np.array([1.0, 2.0]), np.diag([0.5, 0.25]), np.array(2.0)])
    film = np.array([5, 2], np.float32).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(layer(film), [np.sqrt(4 / 2) / 2], rtol=1e-6)


@pytest.mark.parametrize("layer", [Equalise(tiles=2), LungGate(), Novelty(), Affine()])
def test_models_with_these_layers_can_be_saved(layer, tmp_path):
    """And loaded again."""
    image = keras.Input((4, 4, 3))
    inputs = (image, keras.Input((4, 4, 1))) if isinstance(layer, LungGate) else image
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "m.keras")
    assert type(keras.models.load_model(tmp_path / "m.keras").layers[-1]) is type(layer)


def test_moments_are_mean_and_deviation():
    """Of each channel over the grid."""
    features = np.random.default_rng(3).random((2, 4, 5, 3)).astype(np.float32)
    expected = np.concatenate([features.mean(axis=(1, 2)), features.std(axis=(1, 2))], axis=-1)
    np.testing.assert_allclose(Moments()(features), expected, rtol=1e-4)


def test_moments_of_an_even_image_have_a_gradient():
    """The root of no variance would have none."""
    even = tf.ones((1, 4, 4, 2))
    with tf.GradientTape() as tape:
        tape.watch(even)
        total = tf.reduce_sum(Moments()(even))
    assert np.isfinite(tape.gradient(total, even)).all()


def test_nearness_falls_with_the_squared_distance():
    """At the centre 1; two features away by (2, 0), at width 0.5: exp(−0.5 · 4 / 2)."""
    layer = RadialBasis(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 1.0], [3.0, 1.0]]), np.array(0.5)])
    np.testing.assert_allclose(layer(np.array([[1, 1]], np.float32)), [[1, np.exp(-1)]], rtol=1e-5)


@pytest.mark.parametrize("layer", [Moments(), RadialBasis(5)])
def test_a_kernel_heads_layers_can_be_saved(layer, tmp_path):
    """With their sizes."""
    features = keras.Input((4, 4, 3) if isinstance(layer, Moments) else (3,))
    model = keras.Model(features, layer(features))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.output_shape == model.output_shape
    assert [weights.shape for weights in loaded.get_weights()] == [weights.shape for weights in model.get_weights()]
