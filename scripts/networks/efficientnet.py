"""EfficientNet-Lite0 in Keras, and the conversion of its PyTorch weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from scripts.errors import WeightsError

SIDE = 224
# For each stage: blocks, kernel size, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
Weights = Mapping[str, np.ndarray]


def efficientnet_lite0() -> keras.Model:
    """Build EfficientNet-Lite0 with random weights: images `[224, 224, 3]`, 0..255, to 1,000 probabilities.

    Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020: EfficientNet-B0 (Tan and Le,
    ICML 2019) with ReLU6 and without squeeze-and-excitation. The layers have the names of the PyTorch network, where
    each part of a name loses its leading underscore.
    """
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Rescaling(1 / 128, -127 / 128, name="normalise")(image)
    x = _activated(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="conv_stem")(x), "bn0")
    number = 0
    for count, kernel, stride, expansion, channels in _STAGES:
        for position in range(count):
            x = _block(x, f"blocks.{number}", kernel, 1 if position else stride, expansion, channels)
            number += 1
    x = _activated(layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x), "bn1")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(1000, activation="softmax", name="fc")(x), name="efficientnet-lite0")


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Expand, convolve each channel, and project; add a shortcut if the shape stays the same."""
    shortcut, depth = x, x.shape[-1]
    if expansion != 1:
        expand = layers.Conv2D(depth * expansion, 1, use_bias=False, name=f"{name}.expand_conv")
        x = _activated(expand(x), f"{name}.bn0")
    filtered = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}.depthwise_conv")
    x = _activated(filtered(x), f"{name}.bn1")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}.project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}.bn2")(x)
    return layers.Add(name=f"{name}.add")([x, shortcut]) if stride == 1 and depth == channels else x


def _activated(x: Any, name: str) -> Any:
    normalised = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
    return layers.ReLU(6.0, name=f"{name}.relu")(normalised)


def load_weights(model: keras.Model, state: Weights) -> None:
    """Set the weights of `model` from a PyTorch state.

    PyTorch's kernels are (out, in, h, w), and Keras's are (h, w, in, out).

    Raises:
        WeightsError: the state lacks a weight, has an unknown one, or has one of another shape.
    """
    named = {key.replace("._", ".").lstrip("_"): value for key, value in state.items()}
    named = {key: value for key, value in named.items() if not key.endswith("num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        try:
            layer.set_weights(_converted(layer, named))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"the PyTorch weights don't fit the layer {layer.name!r}: {error}") from error
    if named:
        raise WeightsError(f"the PyTorch weights contain {len(named)} unknown ones, such as {min(named)!r}")


def _converted(layer: Any, named: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Remove the weights of `layer` from `named`, and return them in the order and shapes of Keras."""
    if isinstance(layer, layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [named.pop(f"{layer.name}.{part}") for part in parts]
    weight = named.pop(f"{layer.name}.weight")
    if isinstance(layer, layers.Dense):
        return [weight.T, named.pop(f"{layer.name}.bias")]
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return [weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(2, 3, 1, 0)]
