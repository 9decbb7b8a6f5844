"""Packing of a classifier as an artefact: a SavedModel with signatures for explanations, and a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

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
    RegionSpec,
    Task,
)
from app.artifact.store import new_version, seal
from app.imaging.geometry import Box, Fit, Resize
from scripts.errors import ExportError
from scripts.exporting.golden_cases import add_golden_cases
from scripts.exporting.preprocessing import Preprocessing, check_channels, preprocess
from scripts.exporting.split_model import SplitModel

TOLERANCE = 1e-5

Reference = Callable[[UInt8Array], Float32Array]
Evaluator = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Package:
    """The contents of an artefact.

    A `multi_label` model has a sigmoid per class, and `thresholds`, in the order of `classes`, from which a class is
    positive. `feature_region` is the part of the input that the features cover, None for all of it. `reference` maps
    uint8 images `[B, H, W, C]` to probabilities `[B, classes]` that the SavedModel must reproduce up to `tolerance`.

    The trunk may have further outputs behind the features, in this order: a novelty score `[B]` if `novelty` describes
    it; with `box`, the part of the input `[B, 4]` that the features cover, which then differs from image to image; if
    `region` names one, the share `[B, h, w]` of each cell of the features that belongs to an organ. The thresholds of
    warnings are measured on `training_images`, uint8 `[N, H, W, C]`, which are not stored. `evaluator` is
    called with the finished entry before it is published; it may add a report, and returns the `metrics` of the
    manifest. Without `self_checks`, the artefact gets no golden cases and no sanity check, as for a fold model.
    """

    name: str
    classes: tuple[str, ...]
    parts: SplitModel
    reference: Reference
    preprocessing: Preprocessing = "none"
    fit: Fit = "squash"
    resize: Resize = "antialias"
    expects: Expectation = ANYTHING
    task: Task = "single_label"
    thresholds: tuple[float, ...] | None = None
    feature_region: Box | None = None
    box: bool = False
    region: RegionSpec | None = None
    temperature: float = 1.0
    novelty: NoveltySpec | None = None
    training: dict[str, Any] | None = None
    training_images: UInt8Array | None = None
    intended_use: str = DEFAULT_INTENDED_USE
    evaluator: Evaluator | None = None
    self_checks: bool = True
    tolerance: float = TOLERANCE


class _TrunkOutputs(NamedTuple):
    """The features `[B, h, w, K]`, the values of paths around their layer, and the outputs that need no head.

    `novelty` is `[B]`; `optional` has the outputs `box` `[B, 4]` and `regions` `[B, h, w]`, if the model has them.
    """

    features: Any
    around: list[Any]
    novelty: Any
    optional: dict[str, Any]


class Explainer:
    """The three signatures of the artefact contract over one trunk and one head.

    The gradient at the features is part of the traced graph, because a reloaded SavedModel can't be differentiated
    reliably. The tape records only the head, so an explanation costs one backward pass through the head.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._trunk, self._head = package.parts.trunk, package.parts.head

    def save(self, entry: Path) -> None:
        """Write the SavedModel into the folder `entry`."""
        # A plain module owns the variables. A module that owned the Keras models would save every weight twice.
        root = tf.Module()
        root.model_variables = [v.value for part in (self._trunk, self._head) for v in part.variables]
        try:
            tf.saved_model.save(root, str(entry), signatures=self.signatures())
        except AssertionError as error:  # TensorFlow's error for state that no object owns
            raise ExportError("the model has state other than weights, such as random numbers at inference") from error

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
        trunk = self._features(images)
        logits = self._logits(trunk.features, trunk.around)
        return {"probabilities": self._probabilities(logits), "novelty": trunk.novelty, **trunk.optional}

    def evidence(self, images: Any, targets: Any) -> dict[str, Any]:
        trunk = self._features(images)
        logits, gradients, _ = self._differentiate(trunk.features, trunk.around, targets)
        return {
            "probabilities": self._probabilities(logits),
            "logits": logits,
            "features": trunk.features,
            "gradients": gradients,
            "novelty": trunk.novelty,
            **trunk.optional,
        }

    def explain(self, images: Any, class_index: Any) -> dict[str, Any]:
        trunk = self._features(images)
        # tf.one_hot of -1 is all zeros, which selects the predicted class.
        targets = tf.one_hot(class_index, len(self._package.classes))[:, None]
        logits, gradients, resolved = self._differentiate(trunk.features, trunk.around, targets)
        weights = tf.reduce_mean(gradients[:, 0], axis=[1, 2])  # [B, K]
        positive = tf.nn.relu(tf.einsum("bhwk,bk->bhw", trunk.features, weights))
        heatmap = tf.math.divide_no_nan(positive, tf.reduce_max(positive, axis=[1, 2], keepdims=True))
        return {
            "probabilities": self._probabilities(logits),
            "class_index": tf.argmax(resolved[:, 0], axis=-1, output_type=tf.int32),
            "heatmap": heatmap,
            **trunk.optional,
        }

    def _features(self, images: Any) -> _TrunkOutputs:
        outputs = self._trunk(preprocess(images, self._package.preprocessing), training=False)
        features, *around = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        novelty = tf.zeros(tf.shape(images)[:1]) if self._package.novelty is None else around.pop(0)
        wanted = {"box": self._package.box, "regions": self._package.region is not None}
        optional = {name: tf.cast(around.pop(0), tf.float32) for name, has in wanted.items() if has}
        return _TrunkOutputs(tf.cast(features, tf.float32), around, tf.cast(novelty, tf.float32), optional)

    def _logits(self, features: Any, around: list[Any]) -> Any:
        return tf.cast(self._head([features, *around] if around else features, training=False), tf.float32)

    def _probabilities(self, logits: Any) -> Any:
        scores = logits / self._package.temperature
        return tf.nn.sigmoid(scores) if self._package.task == "multi_label" else tf.nn.softmax(scores)

    def _differentiate(self, features: Any, around: list[Any], targets: Any) -> tuple[Any, Any, Any]:
        """Return logits `[B, classes]`, gradients `[B, T, h, w, K]` of each target's score, and the resolved targets.

        The head runs once, on features repeated for the T targets, so that one gradient covers all of them. A target
        of zeros is resolved to the predicted class. It depends on the logits, but is a constant for the gradient.
        """
        count, classes = tf.shape(targets)[1], targets.shape[-1]
        grid = features.shape[1:]
        repeated = tf.repeat(features, count, axis=0)  # [B·T, h, w, K]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(repeated)
            every = self._logits(repeated, [tf.repeat(value, count, axis=0) for value in around])
            logits = tf.reshape(every, [-1, count, classes])[:, 0]
            predicted = tf.one_hot(tf.argmax(logits, axis=-1), classes)[:, None]
            asked = tf.reduce_any(tf.not_equal(targets, 0.0), axis=-1, keepdims=True)
            resolved = tf.stop_gradient(tf.where(asked, targets, predicted))
            score = tf.reduce_sum(tf.reshape(resolved, [-1, classes]) * every)
        gradients = tape.gradient(score, repeated, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return logits, tf.reshape(gradients, [-1, count, *grid]), resolved


def pack(package: Package, store: Path, version: int | None = None) -> Path:
    """Write `package` into `store` as a new version, and return its folder.

    Before it publishes anything, the function loads the SavedModel again, compares its predictions with those of the
    model, checks its boxes and regions, and records golden cases and a sanity check.

    Raises:
        ExportError: if the predictions differ by more than the tolerance, if the classes do not match the logits, or if
            a box or a region is not valid.
        ArtifactError: if the name or the version can't be used.
    """
    _check_package(package)
    height, width, channels = package.parts.trunk.input_shape[1:]
    with new_version(store, package.name, version) as (entry, number):
        Explainer(package).save(entry)
        _prove(package, entry, (height, width, channels))
        shapes = package.parts.head.input_shape
        # A Keras model with several inputs, of which the features are the first, has a list of shapes.
        _, grid_height, grid_width, depth = shapes[0] if isinstance(shapes, list) else shapes
        manifest = Manifest(
            name=package.name,
            version=number,
            created=datetime.now(UTC).replace(microsecond=0),
            classes=package.classes,
            task=package.task,
            thresholds=package.thresholds,
            input=InputSpec(
                height=height,
                width=width,
                channels=channels,
                fit=package.fit,
                resize=package.resize,
                expects=package.expects,
            ),
            feature_layer=FeatureLayer(
                name=package.parts.layer,
                height=grid_height,
                width=grid_width,
                channels=depth,
                region=package.feature_region,
            ),
            temperature=package.temperature,
            novelty=package.novelty,
            region=package.region,
            training=package.training,
            intended_use=package.intended_use,
        )
        seal(entry, manifest)
        if package.self_checks:
            manifest = seal(entry, add_golden_cases(entry, package.training_images))
        if package.evaluator is not None:
            seal(entry, manifest.model_copy(update={"metrics": package.evaluator(entry)}))
    return store / package.name / str(number)


def _check_package(package: Package) -> None:
    channels = package.parts.trunk.input_shape[-1]
    check_channels(package.preprocessing, channels)
    logits = package.parts.head.output_shape[-1]
    if logits != len(package.classes):
        raise ExportError(f"{len(package.classes)} class names for {logits} logits: {', '.join(package.classes)}")
    if len(set(package.classes)) != logits or not all(package.classes):
        raise ExportError(f"class names must be distinct and not empty: {', '.join(package.classes)}")
    if package.thresholds is not None and package.task != "multi_label":
        raise ExportError("--thresholds applies only to multi-label models; this model assigns exactly one class")
    if package.box and package.feature_region is not None:
        raise ExportError("the features cover either a box of each image or the same region of all, not both")


def _prove(package: Package, entry: Path, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    images[0] //= 4  # a dark image, and one without texture
    images[1] = 128
    served = tf.saved_model.load(str(entry))
    outputs = served.signatures["serving_default"](images=tf.constant(images))
    actual = outputs["probabilities"].numpy()
    expected = package.reference(images)
    worst = float(np.abs(actual - expected).max())
    if not worst <= package.tolerance:
        raise ExportError(
            f"the predictions of the export differ from the model's by {worst:.2g}, more than {package.tolerance:g}: "
            "nothing was written"
        )
    _check_places({name: outputs[name].numpy() for name in ("box", "regions") if name in outputs})


def _check_places(outputs: dict[str, Float32Array]) -> None:
    """Check the optional outputs of the export for images."""
    box, regions = outputs.get("box"), outputs.get("regions")
    if box is not None and not (box[:, :2] < box[:, 2:]).all():  # also true for NaN
        raise ExportError(
            "a box is (left, top, right, bottom) in shares of the input, left of right and top of bottom; the model "
            f"answers {box.tolist()}"
        )
    if regions is not None and not ((regions >= 0) & (regions <= 1)).all():
        raise ExportError(f"regions are shares in 0..1; the model answers {regions.min():g} to {regions.max():g}")
