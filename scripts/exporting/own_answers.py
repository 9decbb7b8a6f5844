"""What a Keras model itself answers: the reference that an export is proven by."""

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
    """A function from images uint8 `[B, H, W, C]` to the only output of `model`, `[B, ...]`, as the model gives it.

    Nothing of the output is interpreted here.
    """

    def answers(images: UInt8Array) -> np.ndarray:
        batches = (images[at : at + _BATCH] for at in range(0, len(images), _BATCH))
        return np.concatenate([_called(model, preprocess(batch, preprocessing)) for batch in batches])

    return answers


def _called(model: keras.Model, values: Any) -> np.ndarray:
    """The model's answer to `values`, which are packed as the model takes them: alone, in a list or in a dict."""
    alone = isinstance(model, keras.Sequential)
    given = values if alone else keras.tree.pack_sequence_as(model.input, [values])
    output = keras.tree.flatten(model(given, training=False))[0]
    return tf.cast(output, tf.float32).numpy()


def probes(shape: tuple[int, int, int]) -> UInt8Array:
    """Images that differ as much as images can: pictures of shapes, noise, even and dark ones, `[N, H, W, C]`."""
    noise = np.random.default_rng(1).integers(0, 256, (3, *shape), np.uint8)
    noise[0] //= 4
    even = np.stack([np.full(shape, level, np.uint8) for level in (0, 128, 255)])
    return np.concatenate([golden_pictures(*shape), noise, even])
