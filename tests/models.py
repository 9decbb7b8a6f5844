"""Tiny seeded Keras classifiers, one for every shape of model that the exporter promises to pack."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from scripts.exporting.split_model import SplitModel

SIDE = 16


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """`model` with every weight random, batch-norm statistics included, so that nothing is an identity by chance."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomised(layer, seed + 1)
    model.set_weights([rng.uniform(0.05, 0.6, w.shape) - 0.25 * (w.ndim > 1) for w in model.get_weights()])
    return model


def gap_linear(classes: int = 3, activation: str | None = "softmax") -> keras.Model:
    """conv, ReLU, global average pool, one dense layer: Grad-CAM has a closed form here."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="features")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(image, layers.Dense(classes, activation=activation, name="top")(x)))


def two_layer_head() -> keras.Model:
    """A head with curvature, for finite differences."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(5, 3, strides=4, padding="same", activation="relu", name="features")(x)
    x = layers.Rescaling(1 / 40)(layers.Flatten()(x))  # or the tanh saturates, and has no gradient in single precision
    x = layers.Dense(7, activation="tanh")(x)
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax")(x)))


def bias_free_head() -> keras.Model:
    """A head of ReLUs and linear layers without a bias: homogeneous of degree one in the features."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(5, 3, strides=4, padding="same", activation="relu", name="features")(x)
    x = layers.Dense(9, activation="relu", use_bias=False)(layers.Flatten()(x))
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax", use_bias=False)(x)))


def batch_norm_dropout() -> keras.Model:
    """Layers whose training mode would mix the rows of a batch."""
    return randomised(
        keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 3)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(6, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(name="activated"),
                layers.MaxPooling2D(),
                layers.Conv2D(8, 3, padding="same", name="last_conv"),
                layers.BatchNormalization(),
                layers.ReLU(name="last_relu"),
                layers.MaxPooling2D(),
                layers.Dropout(0.5),
                layers.GlobalAveragePooling2D(),
                layers.Dropout(0.5),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )


def backbone(name: str = "back.bone") -> keras.Model:
    """A base to nest; dots in its names."""
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="conv.1")(image)
    x = layers.Conv2D(8, 3, padding="same", name="conv.2")(x)
    x = layers.BatchNormalization(name="norm.2")(x)
    return keras.Model(image, layers.ReLU(name="relu.2")(x), name=name)


def nested_once() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    x = backbone()(layers.Rescaling(1 / 127.5, -1)(image))
    x = layers.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax")(x)))


def nested_twice() -> keras.Model:
    inner_image = keras.Input((SIDE, SIDE, 3))
    inner = keras.Model(inner_image, layers.MaxPooling2D()(backbone()(inner_image)), name="middle")
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Flatten()(inner(layers.Rescaling(1 / 255)(image)))
    x = layers.Dense(5, activation="relu")(x)
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax")(x)))


def nested_in_sequential() -> keras.Model:
    top = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(3), layers.Softmax()])
    stack = [keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), backbone(), layers.GlobalMaxPooling2D(), top]
    return randomised(keras.Sequential(stack))


def residual() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="conv_a")(image / 255.0)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_b")(x)
    x = layers.Activation("relu", name="joined_relu")(layers.Add(name="joined")([x, y]))
    return randomised(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))


def separate_activation() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.SeparableConv2D(6, 3, strides=2, activation="relu", name="features")(layers.Rescaling(1 / 255)(image))
    x = layers.Dense(3)(layers.Dropout(0.2)(layers.Flatten()(x)))
    return randomised(keras.Model(image, layers.Activation("softmax")(x)))


def one_unit_sigmoid() -> keras.Model:
    return gap_linear(1, "sigmoid")


def grey() -> keras.Model:
    stack = [
        keras.Input((SIDE, SIDE, 1)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu", name="features"),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]
    return randomised(keras.Sequential(stack))


def repeated_names() -> keras.Model:
    """Layers of nested models may share their names with the outer model's."""
    image = keras.Input((SIDE, SIDE, 3))
    twin = keras.Sequential([keras.Input((SIDE, SIDE, 4)), layers.Conv2D(5, 3, name="conv")], name="second")
    x = twin(layers.Conv2D(4, 3, padding="same", name="conv")(layers.Rescaling(1 / 255)(image)))
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(x))))


def planted_square(*before: layers.Layer) -> keras.Model:
    """Class `bright` is the sum of what is bright, by hand-set weights: no training, and one right answer."""
    stack = [
        keras.Input((32, 32, 3)),
        *before,
        layers.Conv2D(1, 4, strides=4, activation="relu", name="features"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    kernel = np.full((4, 4, 3, 1), 1 / (255 * 48), np.float32)
    model.set_weights([kernel, np.array([-0.2], np.float32), np.array([[-4.0, 4.0]], np.float32), np.zeros(2)])
    return model


def cropped_square() -> keras.Model:
    """The same, which sees only the middle 16 x 16 pixels: 4 x 4 cells over a quarter of the input."""
    return planted_square(layers.CenterCrop(16, 16))


def padded_square() -> keras.Model:
    """The same, with 8 black pixels on every side: 12 x 12 cells, of which 8 x 8 cover the input."""
    return planted_square(layers.ZeroPadding2D(8))


@keras.saving.register_keras_serializable("tests")
class RedBox(layers.Layer):
    """Crops each image to the bounding box of its red pixels, and answers crop, box and the red share of 4 x 4 cells.

    An image without red pixels is taken whole. Positions are those of half-pixel centres.
    """

    CROP, GRID = 16, 4

    def call(self, images):
        side = images.shape[1]
        red = images[..., 0] >= 128  # [B, H, W]
        top, bottom = self._extent(tf.reduce_any(red, axis=2), side)
        left, right = self._extent(tf.reduce_any(red, axis=1), side)
        box = tf.stack([left, top, right, bottom], axis=-1)  # in pixels
        down, across = (self._overlaps(box[:, axis], box[:, axis + 2], side) for axis in (1, 0))
        regions = down @ tf.cast(red, tf.float32) @ tf.linalg.matrix_transpose(across)
        scale = (box[:, 2:] - box[:, :2]) / self.CROP
        first, last = box[:, :2] - 0.5 + scale / 2, box[:, 2:] - 0.5 - scale / 2
        corners = tf.concat([first[:, ::-1], last[:, ::-1]], axis=-1) / (side - 1)
        crop = tf.image.crop_and_resize(images, corners, tf.range(tf.shape(images)[0]), (self.CROP, self.CROP))
        return crop, box / side, regions

    def _extent(self, marked, side):
        """The first and the last marked entry of each row, or all of it."""
        first = tf.argmax(marked, axis=-1, output_type=tf.int32)
        last = side - tf.argmax(marked[:, ::-1], axis=-1, output_type=tf.int32)
        return tf.cast(first, tf.float32), tf.cast(last, tf.float32)

    def _overlaps(self, start, stop, side):
        """The share of each cell that each pixel covers, `[B, cells, pixels]`."""
        edges = start[:, None] + (stop - start)[:, None] * np.arange(self.GRID + 1, dtype=np.float32) / self.GRID
        pixels = np.arange(side, dtype=np.float32)
        overlap = tf.minimum(edges[:, 1:, None], pixels + 1) - tf.maximum(edges[:, :-1, None], pixels)
        return tf.maximum(overlap, 0.0) * self.GRID / (stop - start)[:, None, None]


def red_organ(*, gated: bool = False) -> SplitModel:
    """Finds what is red, crops to it, and says `bright` for what is green there; weights set by hand.

    If it is `gated`, its head multiplies the features by the red share of their cells, so that only what is green *and*
    red counts.
    """
    image = keras.Input((32, 32, 3))
    crop, box, regions = RedBox()(image)
    cells = layers.Conv2D(1, 4, strides=4, activation="relu", name="features")
    gate = layers.Reshape((RedBox.GRID, RedBox.GRID, 1))(regions)
    trunk = keras.Model(image, [cells(crop), box, regions, *([gate] if gated else [])])
    green = np.zeros((4, 4, 3, 1), np.float32)
    green[:, :, 1] = 1 / (255 * 16)
    cells.set_weights([green, np.array([-0.2], np.float32)])
    top = layers.Dense(2)
    features, weights = keras.Input((4, 4, 1)), keras.Input((4, 4, 1))
    seen = layers.Multiply()([features, weights]) if gated else features
    inputs = [features, weights] if gated else features
    head = keras.Model(inputs, top(layers.GlobalAveragePooling2D()(seen)))
    top.set_weights([np.array([[-4.0, 4.0]], np.float32), np.zeros(2)])
    return SplitModel(trunk, head, "features")


def gated_organ() -> SplitModel:
    return red_organ(gated=True)


PACKABLE: dict[str, tuple[Callable[[], keras.Model], str]] = {
    # builder, the feature layer that the exporter must choose
    "gap and linear": (gap_linear, "features"),
    "logits": (lambda: gap_linear(activation=None), "features"),
    "flatten and two dense": (two_layer_head, "features"),
    "sequential, batch-norm, dropout": (batch_norm_dropout, "last_relu"),
    "nested once, identity case": (nested_once, "relu.2"),
    "nested twice": (nested_twice, "relu.2"),
    "nested in sequential, nested head": (nested_in_sequential, "relu.2"),
    "residual, operator preprocessing": (residual, "joined_relu"),
    "separate softmax activation": (separate_activation, "features"),
    "one-unit sigmoid": (one_unit_sigmoid, "features"),
    "grey": (grey, "features"),
    "names that repeat": (repeated_names, "second/conv"),
}
