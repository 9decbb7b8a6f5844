"""Where features lie: a spot in the image lights up where it is, however the model crops or turns its input."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from scripts.errors import ExportError
from scripts.exporting.model_analysis import analyse_model
from tests import models

SIDE = 64


@keras.saving.register_keras_serializable("tests")
class Reversed(layers.Layer):
    """Flips the rows or the columns."""

    def __init__(self, axis, **options):
        super().__init__(**options)
        self.axis = axis

    def call(self, inputs):
        return tf.reverse(inputs, [self.axis])


def classifier(before=None, behind=None):
    """Three convolutions, and something before or behind them."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = x if before is None else before(x)
    for width in (8, 12, 16):
        x = layers.Conv2D(width, 3, strides=2, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = x if behind is None else behind(x)
    x = layers.GlobalAveragePooling2D()(x)
    return models.randomised(keras.Model(image, layers.Dense(3, "softmax")(x)))


KINDS = {
    "nothing": ({}, None),
    "a centre crop": ({"before": layers.CenterCrop(48, 48)}, (0.125, 0.125, 0.875, 0.875)),
    "a crop of one corner": ({"before": layers.Cropping2D(((16, 0), (0, 16)))}, (0, 0.25, 0.75, 1)),
    "a slice": ({"before": lambda x: x[:, 8:56, 8:56]}, (0.125, 0.125, 0.875, 0.875)),
    "padding": ({"before": layers.ZeroPadding2D(16)}, (-0.25, -0.25, 1.25, 1.25)),
    "a crop behind the layer": ({"behind": layers.Cropping2D(2)}, None),
    "a flip": ({"before": Reversed(2)}, None),
    "a flip of the features": ({"behind": Reversed(1)}, None),
    "a transposition": ({"before": layers.Permute((2, 1, 3))}, None),
    "a resize": ({"before": layers.Resizing(32, 32)}, None),
    "channels and spatial attention": (
        {"behind": lambda x: x * layers.Dense(16, "sigmoid")(ops.mean(x, (1, 2), keepdims=True))},
        None,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_spot_answers_where_it_is(kind):
    """The region is the known one, and within it the cell that changes most is the spot's."""
    parts, region = KINDS[kind]
    found = analyse_model(classifier(**parts))
    assert found.region == (None if region is None else pytest.approx(region, abs=0.02))
    left, top, right, bottom = region or (0, 0, 1, 1)
    base = np.random.default_rng(1).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32)
    for x, y in [(20, 42), (44, 20)]:
        marked = base.copy()
        marked[:, y - 3 : y + 3, x - 3 : x + 3] = 255 - marked[:, y - 3 : y + 3, x - 3 : x + 3]
        change = np.abs(found.split.trunk(marked) - found.split.trunk(base)).sum(axis=(0, 3))
        row, column = np.unravel_index(change.argmax(), change.shape)
        place = (
            (column + 0.5) / change.shape[1] * (right - left) + left,
            (row + 0.5) / change.shape[0] * (bottom - top) + top,
        )
        assert place == pytest.approx((x / SIDE, y / SIDE), abs=1.2 * (right - left) / change.shape[1])
    turned = np.asarray(found.split.head(found.split.trunk(base)))
    assert turned.shape == (1, 3)


def test_channels_first_features_are_a_map_over_the_image():
    """They are turned so that rows and columns are the image's; the head gets them back as they were."""
    model = classifier(
        behind=lambda x: layers.Permute((1, 2, 3))(layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x)))
    )
    assert analyse_model(model).split.trunk.output_shape == (None, 8, 8, 16)
    first = analyse_model(model, layer=next(one.name for one in model.layers if isinstance(one, layers.Permute)))
    assert first.split.trunk.output_shape == (None, 8, 8, 16)
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    logits = first.split.head(first.split.trunk(images.astype(np.float32)))
    np.testing.assert_allclose(ops.softmax(logits), first.reference(images), atol=1e-6)


@pytest.mark.parametrize("kind", ["rolled", "patches"])
def test_features_that_are_no_picture_of_the_input_are_refused(kind):
    """Halves that changed places; patches as rows."""
    shuffles = {
        "rolled": lambda x: ops.roll(x, 4, axis=1),
        "patches": lambda x: layers.Reshape((4, 16, 16))(layers.Reshape((64, 16))(x)),
    }
    model = classifier(behind=shuffles[kind])
    with pytest.raises(ExportError, match="do not lie like the image"):
        analyse_model(model, layer=model.operations[-3].name)


def test_a_crop_of_the_features_has_its_region():
    """Where the cropped ones are asked for."""
    model = classifier(behind=layers.Cropping2D(2, name="cropped"))
    assert analyse_model(model, layer="cropped").region == pytest.approx((0.25, 0.25, 0.75, 0.75), abs=0.02)
