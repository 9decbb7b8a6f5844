"""The lung segmenter: a small U-Net that finds the lungs in a film."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from scripts.networks.layers import Standardise

SIDE = 128
WIDTHS = (16, 32, 64, 96)


def lung_segmenter(seed: int, side: int = SIDE, widths: tuple[int, ...] = WIDTHS) -> keras.Model:
    """Build an untrained segmenter: grey images `[B, side, side, 1]`, 0..255, to a lung map of that shape, 0..1.

    Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015 (arXiv 1505.04597), with batch normalisation, same padding and
    fewer channels: `widths` are those of the levels, each of which halves the resolution of the one before. The first
    works at half the resolution of the image already, which takes a third of the time; its map is interpolated.
    """
    seeds = iter(range(seed * 1000 + 1, seed * 1000 + 1000))
    image = keras.Input((side, side, 1), name="grey")
    x = Standardise(name="standardise")(image)
    x = _convolution(x, widths[0], "halve", seeds, strides=2)
    skipped = []
    for level, width in enumerate(widths):
        if level:
            skipped.append(x)
            x = keras.layers.MaxPooling2D(name=f"down_{level}")(x)
        x = _double_convolution(x, width, f"encode_{level}", seeds)
    for level in range(len(widths) - 2, -1, -1):
        x = keras.layers.UpSampling2D(name=f"up_{level}")(x)
        x = keras.layers.Concatenate(name=f"join_{level}")([x, skipped[level]])
        x = _double_convolution(x, widths[level], f"decode_{level}", seeds)
    initial = keras.initializers.GlorotUniform(next(seeds))
    x = keras.layers.Conv2D(1, 1, kernel_initializer=initial, name="logits")(x)
    x = keras.layers.UpSampling2D(interpolation="bilinear", name="double")(x)
    return keras.Model(image, keras.layers.Activation("sigmoid", name="lungs")(x), name="segmenter")


def _double_convolution(x: Any, width: int, name: str, seeds: Iterator[int]) -> Any:
    for number in (1, 2):
        x = _convolution(x, width, f"{name}_{number}", seeds)
    return x


def _convolution(x: Any, width: int, name: str, seeds: Iterator[int], strides: int = 1) -> Any:
    initial = keras.initializers.HeNormal(next(seeds))
    convolution = keras.layers.Conv2D(
        width, 3, strides, padding="same", use_bias=False, kernel_initializer=initial, name=name
    )
    x = keras.layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(convolution(x))
    return keras.layers.ReLU(name=f"{name}_relu")(x)
