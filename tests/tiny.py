"""A backbone of two convolutions, registered beside the real ones as any other would be; also for other processes."""

from __future__ import annotations

import sys

import keras
from keras import layers

from scripts import train
from scripts.networks import backbones


def build(_weights: str) -> keras.Model:
    """Seeded, for 32 x 32 pixels."""
    keras.utils.set_random_seed(5)
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="low")(x)
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="high")(x)
    return keras.Model(image, x, name="tiny")


def register() -> None:
    """Make `--backbone tiny` known, of which the last layer is fine-tuned, and `tiny-frozen`, of which none is."""
    backbones.BACKBONES["tiny"] = backbones.Backbone(build, 32, "low")
    backbones.BACKBONES["tiny-frozen"] = backbones.Backbone(build, 32, "high")


def unregister() -> None:
    """Forget them."""
    del backbones.BACKBONES["tiny"], backbones.BACKBONES["tiny-frozen"]


if __name__ == "__main__":
    register()
    sys.exit(train.main(sys.argv[1:]))
