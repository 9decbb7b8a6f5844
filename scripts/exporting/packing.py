"""Pack a classifier as an artefact: a SavedModel with signatures that explain it, and a manifest that describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import (
    ANYTHING,
    DEFAULT_INTENDED_USE,
    Expectation,
    FeatureLayer,
    InputSpec,
    Manifest,
    NoveltySpec,
)
from app.artifact.store import new_version, seal
from app.imaging.geometry import Fit
from scripts.errors import ExportError
from scripts.exporting.golden_cases import add_golden_cases
from scripts.exporting.split_model import Ending, SplitModel

Preprocessing = Literal["none", "rescale", "tf", "caffe", "torch"]
PREPROCESSINGS: tuple[Preprocessing, ...] = get_args(Preprocessing)
TOLERANCE = 1e-5

Reference = Callable[[UInt8Array], Float32Array]
Evaluator = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Package:
    """The contents of an artefact.

    Attributes:
        name: the name of the model in the store.
        classes: the class names in the order of the logits.
        parts: the trunk and the head. A trunk with a second output gives the novelty score `[B]` there.
        reference: maps uint8 images `[B, H, W, C]` to the probabilities `[B, classes]` that the SavedModel must
            reproduce.
        preprocessing: how pixels 0..255 are transformed before they enter the trunk.
        fit: how images are fitted to the input's shape.
        expects: what the header of a DICOM image is expected to say.
        temperature: what divides the logits before the softmax.
        novelty: the method and the threshold of the novelty score; given if and only if the trunk has one.
        training: what the manifest says about the training.
        training_images: uint8 `[N, H, W, C]`. They serve to measure the thresholds of warnings and are not stored.
        intended_use: what the model is for.
        evaluator: is called with the finished entry before it is published. It may add a report to the entry, and
            returns the `metrics` of the manifest.
    """

    name: str
    classes: tuple[str, ...]
    parts: SplitModel
    reference: Reference
    preprocessing: Preprocessing = "none"
    fit: Fit = "squash"
    expects: Expectation = ANYTHING
    temperature: float = 1.0
    novelty: NoveltySpec | None = None
    training: dict[str, Any] | None = None
    training_images: UInt8Array | None = None
    intended_use: str = DEFAULT_INTENDED_USE
    evaluator: Evaluator | None = None


def preprocess(images: Any, mode: Preprocessing) -> Any:
    """Convert images uint8 `[B, H, W, C]` to float32 values in the range that the network was trained on.

    The modes are those of `keras.applications`: `tf` scales to -1..1; `caffe` converts to BGR and subtracts the
    ImageNet mean; `torch` scales to 0..1 and standardises by the ImageNet mean and standard deviation. In addition,
    `rescale` scales to 0..1, and `none` leaves the values unchanged.
    """
    values = tf.cast(images, tf.float32)
    if mode == "none":
        return values
    if mode == "rescale":
        return values / 255.0
    if mode == "tf":
        return values / 127.5 - 1.0
    if mode == "caffe":
        return values[..., ::-1] - tf.constant([103.939, 116.779, 123.68])
    return (values / 255.0 - tf.constant([0.485, 0.456, 0.406])) / tf.constant([0.229, 0.224, 0.225])


class Explainer:
    """The three signatures of an artefact, over one trunk and one head.

    The traced graph contains the gradient at the features, because a reloaded SavedModel can't be differentiated
    reliably. The tape covers only the head, so an explanation costs one backward pass through the head and no more.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._trunk, self._head = package.parts.trunk, package.parts.head

    def save(self, entry: Path) -> None:
        """Write the SavedModel into the folder `entry`."""
        # A module that owns only the variables; one that owned the Keras models would save every weight twice.
        root = tf.Module()
        root.model_variables = [v.value for part in (self._trunk, self._head) for v in part.variables]
        try:
            tf.saved_model.save(root, str(entry), signatures=self.signatures())
        except AssertionError as error:  # TensorFlow raises it if the graph holds state that no object owns
            raise ExportError(
                "the model holds state other than weights, such as a random generator that runs at inference"
            ) from error

    def signatures(self) -> dict[str, Any]:
        """Return the traced functions by signature name."""
        height, width, channels = self._trunk.input_shape[1:]
        images = tf.TensorSpec([None, height, width, channels], tf.uint8, name="images")
        targets = tf.TensorSpec([None, None, len(self._package.classes)], tf.float32, name="targets")
        class_index = tf.TensorSpec([None], tf.int32, name="class_index")
        return {
            "serving_default": tf.function(self.predict, input_signature=[images]),
            "explain": tf.function(self.explain, input_signature=[images, class_index]),
            "evidence": tf.function(self.evidence, input_signature=[images, targets]),
        }

    def predict(self, images: Any) -> dict[str, Any]:
        features, novelty = self._features(images)
        logits = tf.cast(self._head(features, training=False), tf.float32)
        return {"probabilities": self._probabilities(logits), "novelty": novelty}

    def evidence(self, images: Any, targets: Any) -> dict[str, Any]:
        features, novelty = self._features(images)
        logits, gradients, _ = self._differentiate(features, targets)
        return {
            "probabilities": self._probabilities(logits),
            "logits": logits,
            "features": features,
            "gradients": gradients,
            "novelty": novelty,
        }

    def explain(self, images: Any, class_index: Any) -> dict[str, Any]:
        features, _ = self._features(images)
        # tf.one_hot(-1) is all zeros, which stands for the predicted class.
        targets = tf.one_hot(class_index, len(self._package.classes))[:, None]
        logits, gradients, resolved = self._differentiate(features, targets)
        weights = tf.reduce_mean(gradients[:, 0], axis=[1, 2])  # [B, K]
        positive = tf.nn.relu(tf.einsum("bhwk,bk->bhw", features, weights))
        heatmap = tf.math.divide_no_nan(positive, tf.reduce_max(positive, axis=[1, 2], keepdims=True))
        return {
            "probabilities": self._probabilities(logits),
            "class_index": tf.argmax(resolved[:, 0], axis=-1, output_type=tf.int32),
            "heatmap": heatmap,
        }

    def _features(self, images: Any) -> tuple[Any, Any]:
        """Return features `[B, h, w, K]` and novelty scores `[B]`."""
        outputs = self._trunk(preprocess(images, self._package.preprocessing), training=False)
        if self._package.novelty is None:
            return tf.cast(outputs, tf.float32), tf.zeros(tf.shape(images)[:1])
        features, novelty = outputs
        return tf.cast(features, tf.float32), tf.cast(novelty, tf.float32)

    def _probabilities(self, logits: Any) -> Any:
        return tf.nn.softmax(logits / self._package.temperature)

    def _differentiate(self, features: Any, targets: Any) -> tuple[Any, Any, Any]:
        """Return logits `[B, classes]`, the gradients `[B, T, h, w, K]` of each target's score, and resolved targets.

        The head runs once, on features repeated for the T targets, so that a single gradient covers all of them. An
        all-zero target resolves to the predicted class; the gradient treats resolved targets as constants.
        """
        count, classes = tf.shape(targets)[1], targets.shape[-1]
        grid = features.shape[1:]
        repeated = tf.repeat(features, count, axis=0)  # [B·T, h, w, K]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(repeated)
            repeated_logits = tf.cast(self._head(repeated, training=False), tf.float32)
            logits = tf.reshape(repeated_logits, [-1, count, classes])[:, 0]
            predicted = tf.one_hot(tf.argmax(logits, axis=-1), classes)[:, None]
            given = tf.reduce_any(tf.not_equal(targets, 0.0), axis=-1, keepdims=True)
            resolved = tf.stop_gradient(tf.where(given, targets, predicted))
            score = tf.reduce_sum(tf.reshape(resolved, [-1, classes]) * repeated_logits)
        gradients = tape.gradient(score, repeated, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return logits, tf.reshape(gradients, [-1, count, *grid]), resolved


def pack(package: Package, store: Path, version: int | None = None) -> Path:
    """Write `package` into `store` as a new version, and return its folder.

    Before the version is published, the SavedModel is loaded again, its predictions are compared with those of the
    original model, and golden cases and a sanity check are recorded.

    Raises:
        ExportError: the predictions differ by more than `TOLERANCE`, or the classes do not match the logits.
        ArtifactError: the name or the version can't be used.
    """
    _check_package(package)
    height, width, channels = package.parts.trunk.input_shape[1:]
    with new_version(store, package.name, version) as (entry, number):
        Explainer(package).save(entry)
        _verify_export(package, entry, (height, width, channels))
        _, grid_height, grid_width, depth = package.parts.head.input_shape
        manifest = Manifest(
            name=package.name,
            version=number,
            created=datetime.now(UTC).replace(microsecond=0),
            classes=package.classes,
            input=InputSpec(height=height, width=width, channels=channels, fit=package.fit, expects=package.expects),
            feature_layer=FeatureLayer(name=package.parts.layer, height=grid_height, width=grid_width, channels=depth),
            temperature=package.temperature,
            novelty=package.novelty,
            training=package.training,
            intended_use=package.intended_use,
        )
        seal(entry, manifest)
        manifest = seal(entry, add_golden_cases(entry, package.training_images))
        if package.evaluator is not None:
            seal(entry, manifest.model_copy(update={"metrics": package.evaluator(entry)}))
    return store / package.name / str(number)


def _check_package(package: Package) -> None:
    channels = package.parts.trunk.input_shape[-1]
    if channels not in (1, 3):
        raise ExportError(f"the model takes {channels} channels; images have 1 or 3")
    if channels == 1 and package.preprocessing in ("caffe", "torch"):
        raise ExportError(f"preprocessing {package.preprocessing!r} needs 3 channels; the model takes 1")
    logits = package.parts.head.output_shape[-1]
    if logits != len(package.classes):
        raise ExportError(f"{len(package.classes)} class names for {logits} logits: {', '.join(package.classes)}")
    if len(set(package.classes)) != logits or not all(package.classes):
        raise ExportError(f"class names must be distinct and not empty: {', '.join(package.classes)}")


def _verify_export(package: Package, entry: Path, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    images[0] //= 4  # a dark image
    images[1] = 128  # an image without texture
    served = tf.saved_model.load(str(entry))
    actual = served.signatures["serving_default"](images=tf.constant(images))["probabilities"].numpy()
    expected = package.reference(images)
    worst = float(np.abs(actual - expected).max())
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the predictions of the export differ from the model's by {worst:.2g}, more than {TOLERANCE:g}, so it is "
            "not published"
        )


def keras_reference(model: keras.Model, ending: Ending, preprocessing: Preprocessing) -> Reference:
    """Return a function that computes the probabilities with `model` itself, whatever its ending.

    The function raises an `ExportError` if a model that should end in logits returns probabilities.
    """

    def probabilities(images: UInt8Array) -> Float32Array:
        outputs = np.asarray(model(preprocess(images, preprocessing), training=False), np.float64)
        if ending == "logits":
            if (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1):
                raise ExportError(
                    "the model returns probabilities, but has no softmax layer at its end; Grad-CAM needs the logits: "
                    "end the model in a Dense or Softmax layer"
                )
            outputs = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
            outputs /= outputs.sum(axis=-1, keepdims=True)
        elif ending == "logit":
            outputs = 1 / (1 + np.exp(-outputs))
        if outputs.shape[-1] == 1:
            outputs = np.concatenate([1 - outputs, outputs], axis=-1)
        return outputs.astype(np.float32)

    return probabilities
