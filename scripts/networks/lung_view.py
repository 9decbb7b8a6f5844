"""The part of a network that finds the lungs in an image and crops the image to them, inside the graph.

The layers use comparisons, pooling and products of matrices, which every inference engine computes fast; scatters and
histograms are slow in some.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Probability from which a pixel counts as lung.
LUNG = 0.5
# The side of the box in relation to the larger extent of the lungs.
MARGIN = 1.08
# Lungs are found if their two largest parts together cover at least this share of the input. Of the films with masks,
# the smallest lungs cover 4 %.
LEAST_LUNGS = 0.02
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@keras.saving.register_keras_serializable("lightbox")
class LargestParts(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The `count` largest connected parts of masks: 0 or 1 `[B, h, w]` to a mask of the same shape.

    Pixels that touch at a side or a corner are connected. Among parts of equal size, the one whose last pixel comes
    later in reading order wins. Each pixel starts with a label of its own; maxima over neighbours spread the labels
    until none changes, so that a part ends with the label of its last pixel.
    """

    def __init__(self, count: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}

    def call(self, masks: Any) -> Any:
        height, width = masks.shape[1:]
        inside = masks > LUNG
        own = tf.constant(np.arange(height * width, dtype=np.float32).reshape(height, width))
        labels = self._spread(tf.where(inside, own[None], -1.0), inside)
        sizes = self._sizes(labels, height, width)  # [B, h·w]
        kept = tf.zeros_like(labels)
        for _ in range(self.count):
            largest = tf.reduce_max(sizes, axis=-1, keepdims=True)
            ids = tf.range(height * width, dtype=tf.float32)
            label = tf.reduce_max(tf.where(sizes == largest, ids, -1.0), axis=-1, keepdims=True)  # [B, 1]
            kept = tf.maximum(kept, tf.cast((labels == label[..., None]) & inside, tf.float32))
            sizes = tf.where(ids == label, 0.0, sizes)
        return kept

    def _spread(self, labels: Any, inside: Any) -> Any:
        def changed(_: Any, moving: Any) -> Any:
            return moving

        def step(now: Any, _: Any) -> Any:
            pooled = tf.nn.max_pool2d(now[..., None], 3, 1, "SAME")[..., 0]
            after = tf.where(inside, pooled, -1.0)
            return after, tf.reduce_any(after != now)

        return tf.while_loop(changed, step, [labels, tf.constant(True)])[0]

    def _sizes(self, labels: Any, height: int, width: int) -> Any:
        """Count the pixels of each label: the product of one-hot rows and columns, `[B, h·w]`."""
        flat = tf.reshape(labels, [-1, height * width])
        row = tf.floor(flat / width)
        rows = tf.cast(row[..., None] == tf.range(height, dtype=tf.float32), tf.float32)
        columns = tf.cast((flat - row * width)[..., None] == tf.range(width, dtype=tf.float32), tf.float32)
        return tf.reshape(tf.linalg.matmul(rows, columns, transpose_a=True), [-1, height * width])

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape


@keras.saving.register_keras_serializable("lightbox")
class LungBox(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Lung maps `[B, s, s, 1]`, 0..1, to the box of the lungs `[B, 4]` and a mask of the lungs `[B, s, s, 1]`, 0 or 1.

    The mask has the two largest parts of the map, which are labelled at half the resolution. The box (left, top, right,
    bottom, 0..1 of the input) is a square around them, `MARGIN` times as large, which is moved into the input where it
    would stand out. Where no lungs are found, it is the whole input, and the mask is empty.
    """

    def build(self, _input_shape: Any) -> None:
        self.parts = LargestParts()

    def call(self, lungs: Any) -> Any:
        side = lungs.shape[1]
        coarse = tf.cast(tf.nn.avg_pool2d(lungs, 2, 2, "VALID")[..., 0] > LUNG, tf.float32)
        parts = tf.repeat(tf.repeat(self.parts(coarse), 2, axis=1), 2, axis=2)
        mask = parts * tf.cast(lungs[..., 0] > LUNG, tf.float32)
        left, right = self._extent(tf.reduce_max(mask, axis=1), side)
        top, bottom = self._extent(tf.reduce_max(mask, axis=2), side)
        extent = tf.minimum(MARGIN * tf.maximum(right - left, bottom - top), 1.0)
        x = tf.clip_by_value((left + right - extent) / 2, 0.0, 1.0 - extent)
        y = tf.clip_by_value((top + bottom - extent) / 2, 0.0, 1.0 - extent)
        box = tf.stack([x, y, x + extent, y + extent], axis=-1)
        found = tf.reduce_mean(mask, axis=[1, 2])[:, None] >= LEAST_LUNGS
        kept = mask * tf.cast(found, tf.float32)[..., None]
        return tf.where(found, box, tf.constant([_WHOLE])), kept[..., None]

    def _extent(self, line: Any, side: int) -> tuple[Any, Any]:
        """Return the edges of the first and the last pixel of `line` `[B, side]` that is 1, in shares of the side."""
        edges = tf.range(side, dtype=tf.float32) / side
        first = tf.reduce_min(tf.where(line > 0, edges, 1.0), axis=-1)
        last = tf.reduce_max(tf.where(line > 0, edges + 1 / side, 0.0), axis=-1)
        return first, last

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (input_shape[0], 4), input_shape


@keras.saving.register_keras_serializable("lightbox")
class CropToBox(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The part of images `[B, H, W, C]` inside boxes `[B, 4]`, bilinearly resampled: `[B, side, side, C]`.

    Pixel (i, j) of the result samples the image at the centre of cell (i, j) of a grid over the box.
    """

    def __init__(self, side: int, **options: Any) -> None:
        super().__init__(**options)
        self.side = side

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side}

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, boxes = inputs
        height, width, channels = images.shape[1:]
        down = self._weights(boxes[:, 1], boxes[:, 3], height)  # [B, side, H]
        across = self._weights(boxes[:, 0], boxes[:, 2], width)  # [B, side, W]
        rows = tf.linalg.matmul(down, tf.reshape(images, [-1, height, width * channels]))
        rows = tf.reshape(rows, [-1, self.side, width, channels])
        if channels == 1:
            return tf.linalg.matmul(rows[..., 0], across, transpose_b=True)[..., None]
        return tf.einsum("bswc,btw->bstc", rows, across)

    def _weights(self, low: Any, high: Any, size: int) -> Any:
        """Return the weights `[B, side, size]` of the pixels along an axis, for each pixel of the result.

        They are those of bilinear interpolation, widened where the result is coarser than the image, so that it
        doesn't alias.
        """
        step = (high - low) * (size / self.side)
        centre = low[:, None] * size + (tf.range(self.side, dtype=tf.float32) + 0.5) * step[:, None] - 0.5
        centre = tf.clip_by_value(centre, 0.0, float(size - 1))
        radius = tf.maximum(step, 1.0)[:, None, None]
        distance = tf.abs(centre[..., None] - tf.range(size, dtype=tf.float32))
        weights = tf.nn.relu(1.0 - distance / radius)
        return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0][0], self.side, self.side, input_shape[0][-1])


def lung_view(segmenter: keras.Model, size: int, crop: int) -> keras.Model:
    """Build the model that looks at the lungs: images `[B, size, size, 3]`, 0..255, to a crop, a box and a lung map.

    The segmenter sees the image at its own resolution, which must divide `size`. The results are the crop, grey in
    three equal channels, `[B, crop, crop, 3]`, its box `[B, 4]`, and the mask of the lungs inside the box,
    `[B, crop, crop, 1]`, 0..1, which is empty where no lungs are found.

    Raises:
        ValueError: the segmenter's side does not divide `size`.
    """
    side = segmenter.input_shape[1]
    if size % side:
        raise ValueError(f"the segmenter takes {side} pixels a side, which does not divide {size}")
    image = keras.Input((size, size, 3), name="image")
    grey = Grey(name="grey")(image)
    lungs = segmenter(keras.layers.AveragePooling2D(size // side, name="shrink")(grey))
    box, mask = LungBox(name="box")(lungs)
    seen = keras.layers.Concatenate(name="channels")([CropToBox(crop, name="crop")([grey, box])] * 3)
    inside = CropToBox(crop, name="lungs_inside")([mask, box])
    return keras.Model(image, [seen, box, inside], name="lung_view")


@keras.saving.register_keras_serializable("lightbox")
class Grey(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Images `[B, H, W, 3]` to grey `[B, H, W, 1]` (ITU-R BT.601); three equal channels keep their value."""

    def call(self, images: Any) -> Any:
        return tf.tensordot(images, tf.constant([[0.299], [0.587], [0.114]]), 1)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*input_shape[:-1], 1)
