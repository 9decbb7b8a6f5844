"""Custom Keras layers of the networks that can be trained."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts RGB to grey
_FLOOR = 1e-3  # avoids division by zero where a gate is closed everywhere, and infinite slopes of square roots


def _histograms(levels: Any) -> Any:
    """Count the levels 0..255 of `levels`, int32 `[B, N, P]`, along the last axis: `[B, N, 256]`.

    A level has two digits of base 16. The counts are the product of the one-hot high digits and the one-hot low digits,
    summed over the pixels. Inference engines multiply matrices fast, but not all of them scatter or count fast.
    """
    digits = tf.range(16)
    high = tf.cast((levels // 16)[..., None] == digits, tf.float32)  # [B, N, P, 16]
    low = tf.cast((levels % 16)[..., None] == digits, tf.float32)
    return tf.reshape(tf.linalg.matmul(high, low, transpose_a=True), [-1, levels.shape[1], 256])


@keras.saving.register_keras_serializable("lightbox")
class Equalise(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Contrast-limited adaptive histogram equalisation: images `[B, H, W, C]`, 0..255, to grey in C equal channels.

    Pizer et al., "Adaptive histogram equalization and its variations", Comput. Vis. Graph. Image Process. 39 (1987)
    355-368; Zuiderveld, Graphics Gems IV (1994). The histogram of each of the `tiles` x `tiles` tiles has 256 bins,
    which are clipped at `clip` times their mean; the excess is distributed evenly. Between the centres of the tiles,
    the mappings are interpolated. H and W must be multiples of `tiles`.
    """

    def __init__(self, tiles: int = 8, clip: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.tiles = tiles
        self.clip = clip

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tiles": self.tiles, "clip": self.clip}

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape

    def build(self, input_shape: tuple[Any, ...]) -> None:
        for side in input_shape[1:3]:
            if side % self.tiles:
                raise ValueError(f"Equalise needs sides that are multiples of {self.tiles}; got {input_shape[1:3]}")

    def call(self, images: Any) -> Any:
        height, width, channels = images.shape[1:]
        grey = tf.tensordot(images, tf.constant(_LUMA), 1) if channels == 3 else images[..., 0]
        level = tf.cast(tf.clip_by_value(tf.round(grey), 0.0, 255.0), tf.int32)  # [B, H, W]
        mappings = self._mappings(level, height, width)  # [B, tiles², 256]
        rows, columns = self._neighbours(height), self._neighbours(width)
        equalised = tf.zeros_like(grey)
        for row, row_weight in rows:
            for column, column_weight in columns:
                tile = row[:, None] * self.tiles + column[None, :]  # [H, W]
                index = tf.reshape(tile[None] * 256 + level, [-1, height * width])
                flat = tf.reshape(mappings, [-1, self.tiles * self.tiles * 256])
                value = tf.reshape(tf.gather(flat, index, batch_dims=1), [-1, height, width])
                equalised += value * (row_weight[:, None] * column_weight[None, :])
        return tf.repeat(equalised[..., None], channels, axis=-1)

    def _mappings(self, level: Any, height: int, width: int) -> Any:
        area = (height // self.tiles) * (width // self.tiles)
        shape = [-1, self.tiles, height // self.tiles, self.tiles, width // self.tiles]
        tiles = tf.transpose(tf.reshape(level, shape), [0, 1, 3, 2, 4])
        histogram = _histograms(tf.reshape(tiles, [-1, self.tiles**2, area]))
        limit = self.clip * area / 256
        excess = tf.reduce_sum(tf.maximum(histogram - limit, 0.0), axis=-1, keepdims=True)
        clipped = tf.minimum(histogram, limit) + excess / 256
        return tf.cumsum(clipped, axis=-1) * (255.0 / area)

    def _neighbours(self, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, for each pixel along a side, the two nearest tiles and their interpolation weights."""
        position = np.clip((np.arange(side) + 0.5) * self.tiles / side - 0.5, 0, self.tiles - 1)
        low = np.floor(position).astype(np.int32)
        share = (position - low).astype(np.float32)
        return [(low, 1 - share), (np.minimum(low + 1, self.tiles - 1), share)]


@keras.saving.register_keras_serializable("lightbox")
class Standardise(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Each image of `[B, H, W, C]` less its mean and divided by its standard deviation; a flat image becomes zeros."""

    def call(self, images: Any) -> Any:
        mean, variance = tf.nn.moments(images, axes=[1, 2, 3], keepdims=True)
        return (images - mean) / (tf.sqrt(variance) + 1.0)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape


@keras.saving.register_keras_serializable("lightbox")
class Affine(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """scale · x + offset for each entry of the last axis: `[..., K]` to `[..., K]`. The weights are not trainable."""

    def build(self, input_shape: tuple[Any, ...]) -> None:
        depth = input_shape[-1]
        self.scale = self.add_weight(name="scale", shape=(depth,), initializer="ones", trainable=False)
        self.offset = self.add_weight(name="offset", shape=(depth,), initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale + self.offset


@keras.saving.register_keras_serializable("lightbox")
class LungGate(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Features `[B, h, w, K]` multiplied by a lung map `[B, h, w, 1]`, 0..1, which is scaled to a mean of 1.

    The global average of the result is the average over the lungs, so that features outside the lungs contribute
    neither to the prediction nor to the heatmap.
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        features, lungs = inputs
        if lungs.shape[1:3] != features.shape[1:3]:
            lungs = tf.image.resize(lungs, features.shape[1:3], method="area")
        weights = tf.stop_gradient(lungs) + _FLOOR  # the lung map learns from masks only, not from labels
        return features * (weights / tf.reduce_mean(weights, axis=[1, 2], keepdims=True))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


@keras.saving.register_keras_serializable("lightbox")
class Novelty(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Mahalanobis distance `[B]` of the average of features `[B, h, w, K]` from the averages of the training images.

    Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018, with one Gaussian
    for all classes. The distance is divided by `scale`, so that the threshold is 1.
    """

    def build(self, input_shape: Any) -> None:
        depth = input_shape[-1]
        self.mean = self.add_weight(name="mean", shape=(depth,), initializer="zeros", trainable=False)
        self.whitening = self.add_weight(
            name="whitening", shape=(depth, depth), initializer="identity", trainable=False
        )
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def call(self, features: Any) -> Any:
        white = tf.linalg.matmul(tf.reduce_mean(features, axis=[1, 2]) - self.mean, self.whitening)
        return tf.sqrt(tf.reduce_mean(tf.square(white), axis=-1)) / self.scale

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0],)


@keras.saving.register_keras_serializable("lightbox")
class Moments(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Mean and standard deviation over the grid: features `[B, h, w, K]` to `[B, 2K]`."""

    def call(self, features: Any) -> Any:
        mean, variance = tf.nn.moments(features, axes=[1, 2])
        return tf.concat([mean, tf.sqrt(variance + _FLOOR**2)], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 * input_shape[-1])


@keras.saving.register_keras_serializable("lightbox")
class RadialBasis(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """exp(−width · ‖x − cⱼ‖² / d) of x `[B, d]` for each of M centres cⱼ: `[B, M]`. The weights are not trainable."""

    def __init__(self, centres: int, **options: Any) -> None:
        super().__init__(**options)
        self.centre_count = centres

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "centres": self.centre_count}

    def build(self, input_shape: Any) -> None:
        shape = (self.centre_count, input_shape[-1])
        self.centres = self.add_weight(name="centres", shape=shape, initializer="zeros", trainable=False)
        self.width = self.add_weight(name="width", shape=(), initializer="ones", trainable=False)

    def call(self, inputs: Any) -> Any:
        # ‖x − c‖² = ‖x‖² + ‖c‖² − 2 x·c
        squares = tf.reduce_sum(tf.square(inputs), axis=-1, keepdims=True) + tf.reduce_sum(
            tf.square(self.centres), axis=-1
        )
        distances = squares - 2.0 * tf.linalg.matmul(inputs, self.centres, transpose_b=True)
        return tf.exp(-self.width / inputs.shape[-1] * distances)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.centre_count)
