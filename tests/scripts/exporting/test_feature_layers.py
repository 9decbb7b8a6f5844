"""The layer that is explained unless another is asked for."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from scripts.errors import ExportError
from scripts.exporting.model_analysis import analyse_model
from tests import models


def classifier(body, side=32):
    image = keras.Input((side, side, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="first")(
        layers.Rescaling(1 / 255)(image)
    )
    x = layers.GlobalAveragePooling2D()(body(x))
    return models.randomised(keras.Model(image, layers.Dense(3, "softmax")(x)))


def spatial_attention(x):
    """As in CBAM: what is averaged over the channels weighs the grid."""
    both = layers.Concatenate()([ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)])
    return layers.Multiply(name="weighed")([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid")(both)])


def upsampled(x):
    """Joined with what came before, as in a U-Net."""
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    return layers.Concatenate(name="joined")([x, layers.UpSampling2D()(y)])


def small_inception(x):
    """Branches of which the last ones end on a grid of one cell."""
    branches = [layers.Conv2D(4, size, padding="same", activation="relu")(x) for size in (1, 3)]
    x = layers.Concatenate(name="mixed")(branches)
    parts = [layers.Conv2D(4, 3, activation="relu")(x), layers.Conv2D(4, 3, strides=1)(x)]
    return layers.Concatenate()([layers.GlobalMaxPooling2D(keepdims=True)(part) for part in parts])


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A convolution that is hidden inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Conv2D(8, 3, padding="same", activation="relu")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)

    def compute_output_shape(self, shape):
        return shape


KINDS = {
    "spatial attention": (spatial_attention, "weighed"),
    "upsampling": (upsampled, "joined"),
    "small inception": (small_inception, "mixed"),
    "spectral normalisation": (
        layers.SpectralNormalization(layers.Conv2D(4, 3), name="hidden"),
        "hidden",
    ),
    "own blocks": (lambda x: Block(name="last")(Block(name="block")(x)), "last"),
    "convolution over time": (
        lambda x: layers.ConvLSTM2D(4, 3, padding="same", name="lstm")(layers.Reshape((1, 16, 16, 8))(x)),
        "lstm",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_layer_that_all_paths_go_through(kind):
    """With the grid of the last convolution whose grid such a layer has."""
    body, name = KINDS[kind]
    model = classifier(body)
    found = analyse_model(model)
    assert found.split.layer == name
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    logits = found.split.head(found.split.trunk(images.astype(np.float32)))
    np.testing.assert_allclose(ops.softmax(logits), found.reference(images), atol=1e-6)


def test_a_base_that_is_called_by_keyword_is_looked_into():
    """`base(inputs=x)` is `base(x)`."""
    image = keras.Input((16, 16, 3))
    x = models.backbone()(inputs=layers.Rescaling(1 / 255)(image))
    x = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x))
    assert analyse_model(models.randomised(keras.Model(image, x))).split.layer == "relu.2"


def two_backbones():
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    ends = [
        layers.GlobalAveragePooling2D()(layers.Conv2D(4, size, activation="relu", name=f"end_{size}")(x))
        for size in (3, 5)
    ]
    return models.randomised(keras.Model(image, layers.Dense(3, "softmax")(layers.Concatenate()(ends))))


def test_each_of_two_backbones_has_a_map_of_its_own():
    """The refusal names both; asked for, one is explained, and a warning says what its maps leave out."""
    model = two_backbones()
    with pytest.raises(ExportError, match=r"--layer, best first: end_3, end_5"):
        analyse_model(model)
    found = analyse_model(model, layer="end_3")
    assert "other paths lead around layer 'end_3'" in found.warnings[0]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    logits = found.split.head(found.split.trunk(images.astype(np.float32)))
    np.testing.assert_allclose(ops.softmax(logits), found.reference(images), atol=1e-6)


def test_of_a_nested_model_with_several_outputs_one_may_be_used():
    """The other leads nowhere."""
    start = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="used")(start)
    inner = keras.Model(start, [x, layers.Conv2D(4, 3, name="unused")(x)], name="inner")
    image = keras.Input((16, 16, 3), name="image")
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1 / 255)(image))[0])
    found = analyse_model(models.randomised(keras.Model({"image": image}, {"label": layers.Dense(3, "softmax")(x)})))
    assert found.split.layer == "used"
