"""Outputs of the original Keras model, with which an export is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.arrays import UInt8Array
from scripts.exporting.golden_cases import golden_pictures
from scripts.exporting.preprocessing import Preprocessing, preprocess

OwnAnswers = Callable[[UInt8Array], np.ndarray]
_BATCH = 4


def own_answers(model: keras.Model, preprocessing: Preprocessing) -> OwnAnswers:
    """Return a function from uint8 images `[B, H, W, C]` to the unchanged output of `model`, `[B, ...]`."""

    def answers(images: UInt8Array) -> np.ndarray:
        batches = (images[at : at + _BATCH] for at in range(0, len(images), _BATCH))
        return np.concatenate([_called(model, preprocess(batch, preprocessing)) for batch in batches])

    return answers


def _called(model: keras.Model, values: Any) -> np.ndarray:
    """Call the model with `values`, as a tensor, a list or a dict, depending on the structure of its input."""
    alone = isinstance(model, keras.Sequential)
    given = values if alone else keras.tree.pack_sequence_as(model.input, [values])
    output = keras.tree.flatten(model(given, training=False))[0]
    return tf.cast(output, tf.float32).numpy()


def probes(shape: tuple[int, int, int]) -> UInt8Array:
    """Return a variety of test images `[N, H, W, C]`: pictures of shapes, noise, dark and uniform ones."""
    noise = np.random.default_rng(1).integers(0, 256, (3, *shape), np.uint8)
    noise[0] //= 4
    even = np.stack([np.full(shape, level, np.uint8) for level in (0, 128, 255)])
    return np.concatenate([golden_pictures(*shape), noise, even])
