"""Run by a Python that has tf_keras: writes models of Keras 2 and what they answer into the folder that it is given.

Some it makes, with random weights; others are published in packages, trained.
"""

import importlib.metadata
import shutil
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers


def transfer(base):
    """The usual one: preprocessing, a frozen base, a pooling and a dense layer."""
    base.trainable = False
    image = keras.Input((64, 64, 3))
    x = base(image / 127.5 - 1.0, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(3, "softmax")(x))


def half_frozen():
    model = transfer(keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None))
    model.layers[3].trainable = True
    for layer in model.layers[3].layers[:40]:
        layer.trainable = False
    return model


def augmented():
    return keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(8, 3),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1, "sigmoid"),
        ]
    )


MODELS = {
    "densenet121": lambda: transfer(keras.applications.DenseNet121(False, None, input_shape=(64, 64, 3))),
    "mobilenet": lambda: transfer(
        keras.applications.MobileNet((64, 64, 3), alpha=0.25, include_top=False, weights=None)
    ),
    "half_frozen": half_frozen,
    "vgg16": lambda: transfer(keras.applications.VGG16(False, None, input_shape=(64, 64, 3))),
    "efficientnetb0": lambda: transfer(keras.applications.EfficientNetB0(False, None, input_shape=(64, 64, 3))),
    "augmented": augmented,
}


# Where a package keeps its model, and what its code does with an image of 0..255 before it asks the model.
PUBLISHED = {
    "emotions": ("fer", "fer/data/emotion_model.hdf5", lambda image: image / 127.5 - 1.0),
    "digits": ("sudoku-ocr", "sudoku_ocr/cnn.h5", lambda image: image / 255.0),
}


def write_published(folder: Path) -> None:
    for name, (package, file, scale) in PUBLISHED.items():
        path = folder / f"{name}.h5"
        # Not imported: its code needs packages that are not here.
        shutil.copyfile(importlib.metadata.distribution(package).locate_file(file), path)
        model = keras.models.load_model(path)
        noise = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:]), np.uint8)
        ramps = np.arange(noise[0].size).reshape(noise[0].shape) * 255 // noise[0].size
        images = np.concatenate([noise, [noise[0] // 4, ramps, 255 - ramps]]).astype(np.uint8)
        np.savez(
            folder / f"{name}.npz", images=images, outputs=model.predict(scale(images.astype(np.float32)), verbose=0)
        )


def main(folder: Path) -> None:
    write_published(folder)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    for name, build in MODELS.items():
        keras.utils.set_random_seed(0)
        model = build()
        for weight in model.weights:  # statistics and offsets that are not those of a beginning
            if weight.shape.rank == 1:
                weight.assign(weight + tf.random.uniform(weight.shape, 0.0, 0.3))
        model.save(folder / f"{name}.h5")
        np.savez(folder / f"{name}.npz", images=images, outputs=model.predict(images.astype(np.float32), verbose=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
