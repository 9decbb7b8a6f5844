"""A runtime without a network: the Runtime protocol answered by arithmetic that a reader can follow."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import FeatureLayer, InputSpec, Manifest, NoveltySpec
from app.artifact.runtimes.base import Evidence, Library, Scores
from app.imaging.geometry import Fit


def manifest(*, fit: Fit = "squash", novelty: NoveltySpec | None = None, side: int = 8) -> Manifest:
    """The manifest of a model that the doubles stand for."""
    return Manifest(
        name="double",
        version=3,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        classes=("dark", "middle", "bright"),
        input=InputSpec(height=side, width=side, channels=3, fit=fit),
        feature_layer=FeatureLayer(name="blocks", height=side, width=side, channels=1),
        novelty=novelty,
    )


class BrightnessRuntime:
    """Features are the pixels' brightness 0..1; the class is the third of the range that the mean lies in.

    The gradient of every class's score is its sign everywhere: +1 for `bright`, -1 for `dark`, 0 for `middle`.
    """

    device = "CPU"
    library = Library("arithmetic", "1.0")

    def __init__(self, manifest: Manifest | None = None) -> None:
        self.manifest = manifest or globals()["manifest"]()

    def memory_bytes(self) -> int:
        return 0

    def predict(self, images: UInt8Array) -> Scores:
        probabilities = np.full((len(images), 3), 0.1, np.float32)
        probabilities[np.arange(len(images)), self._classes(images)] = 0.8
        return Scores(probabilities, images.mean(axis=(1, 2, 3)).astype(np.float32) / 255)

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        scores = self.predict(images)
        asked = np.where(targets.any(axis=-1, keepdims=True), targets, np.eye(3)[self._classes(images)][:, None])
        signs = (asked @ np.array([-1, 0, 1])).astype(np.float32)  # [B, T]
        features = images.mean(axis=-1, keepdims=True).astype(np.float32) / 255
        gradients = np.broadcast_to(signs[:, :, None, None, None], (*signs.shape, *features.shape[1:]))
        return Evidence(
            scores.probabilities, np.log(scores.probabilities), features, gradients.astype(np.float32), scores.novelty
        )

    def _classes(self, images: UInt8Array) -> np.ndarray:
        return np.minimum(images.mean(axis=(1, 2, 3)) // 85.1, 2).astype(int)


class RecordingRuntime(BrightnessRuntime):
    """Keeps the `targets` that it is given, `[B, T, classes]` of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Float32Array] = []

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        self.targets.append(targets)
        return super().evidence(images, targets)


class GatedRuntime(BrightnessRuntime):
    """Answers only once `gate` is set; `entered` says that a call has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()

    def predict(self, images: UInt8Array) -> Scores:
        self.entered.set()
        self.gate.wait(timeout=30)
        return super().predict(images)


class BrokenRuntime(BrightnessRuntime):
    """Fails in a way that nobody foresaw."""

    def predict(self, images: UInt8Array) -> Scores:
        raise RuntimeError("secret detail /etc/passwd")
