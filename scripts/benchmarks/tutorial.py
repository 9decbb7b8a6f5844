"""Grad-CAM as in tutorials, with the weights of an artefact, to compare the service with."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image

from app.artifact.manifest import read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify
from scripts.errors import ScriptError
from scripts.networks.backbones import BACKBONES, build_network
from scripts.networks.layers import LungGate


def tutorial(entry: Path) -> Callable[[bytes], bytes]:
    """Return a function from an encoded image to an encoded overlay that follows the example of Keras.

    Source: "Grad-CAM class activation visualization", keras.io/examples/vision/grad_cam. For every image, the example
    calls `model.predict`, builds a second model with two outputs, and runs it eagerly in a `GradientTape`. Here, the
    Keras model is rebuilt with the weights of the artefact, and its logits are compared with the artefact's.

    Raises:
        ScriptError: the artefact was not made by `scripts.train`, or the logits differ.
    """
    manifest = read_manifest(entry)
    model, layer = _model(entry)
    spec = manifest.input

    def explain(data: bytes) -> bytes:
        picture = decode(identify(data), max_pixels=64_000_000)
        pixels = to_input(
            picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit, resize=spec.resize
        )
        image = pixels[None].astype(np.float32)
        model.predict(image, verbose=0)
        heatmap = _heatmap(image, model, layer)
        coloured = Image.fromarray((colormaps["jet"](heatmap)[..., :3] * 255).astype(np.uint8))
        original = picture.image.convert("RGB")
        buffer = io.BytesIO()
        Image.blend(original, coloured.resize(original.size), 0.5).save(buffer, "PNG")
        return buffer.getvalue()

    return explain


def _heatmap(image: np.ndarray, model: keras.Model, layer: str) -> np.ndarray:
    """Follow `make_gradcam_heatmap` of the example."""
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        features, scores = both([image])
        score = scores[:, int(np.argmax(scores[0]))]
    gradients = tape.gradient(score, features)
    weights = tf.reduce_mean(gradients, axis=(0, 1, 2))
    heatmap = tf.squeeze(features[0] @ weights[..., tf.newaxis])
    heatmap = tf.maximum(heatmap, 0) / tf.math.reduce_max(heatmap)
    return np.asarray(heatmap)


def _model(entry: Path) -> tuple[keras.Model, str]:
    """Rebuild the network as a flat Keras model that ends in logits; return it and the name of its feature layer."""
    runtime = TensorFlowRuntime(entry)
    manifest = runtime.manifest
    backbone = (manifest.training or {}).get("backbone")
    if backbone not in BACKBONES:
        raise ScriptError(f"{entry} was not made by scripts.train, so there is no Keras model to compare with")
    gated = manifest.feature_layer.name == "lung_gate"
    network = build_network(BACKBONES[backbone], "none", len(manifest.classes), gated=gated, dropout=0.0, seed=0)
    image = keras.Input(network.frozen.input_shape[1:], name="image")
    cut = x = _apply_layers(network.frozen.layers[1:], image)
    for layer in network.tail.layers[1:]:
        if isinstance(layer, LungGate):
            x = layer([x, _apply_layers(network.lungs.layers[1:], cut)]) if network.lungs else x
        elif layer is not network.lungs:
            x = layer(x)
    # The model is cloned because its layers have been called before, and `layer.output` belongs to the first call.
    model = keras.models.clone_model(keras.Model(image, _apply_layers(network.head.layers[1:], x)))
    values = {variable.name.removesuffix(":0"): variable for variable in runtime.variables()}
    for weight in model.weights:
        weight.assign(values[weight.path])
    _check_logits(model, runtime)
    return model, manifest.feature_layer.name


def _apply_layers(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _check_logits(model: keras.Model, runtime: TensorFlowRuntime) -> None:
    spec, classes = runtime.manifest.input, runtime.manifest.classes
    images = np.random.default_rng(0).integers(0, 256, (2, spec.height, spec.width, spec.channels), np.uint8)
    expected = runtime.evidence(images, np.zeros((2, 1, len(classes)), np.float32)).logits
    difference = float(np.abs(np.asarray(model(images.astype(np.float32))) - expected).max())
    if difference > 1e-3:
        raise ScriptError(f"the Keras model's logits differ from the artefact's by {difference:g}")
