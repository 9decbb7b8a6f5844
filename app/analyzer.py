"""What the service does with an image: predict, and explain."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import numpy as np
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.artifact import Manifest
from app.cams import Heatmap, cam_method, normalise
from app.decoding import decode, to_input
from app.errors import DeadlineExceededError, QuestionError, QueueFullError, UnknownNameError
from app.geometry import seen_region
from app.overlay import Overlay, Style, reduced, render
from app.runtimes.base import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far an image lies from what the model was trained on; above `threshold` it is out of distribution."""

    score: float
    threshold: float

    @property
    def out_of_distribution(self) -> bool:
        return self.score > self.threshold


@dataclass(frozen=True, slots=True)
class Original:
    """What an image was, upright: its size in pixels, and the container that it came in."""

    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer: `probabilities` by class name, in logit order; `novelty` None where the model has none."""

    original: Original
    probabilities: dict[str, float]
    novelty: Novelty | None

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain, and how to show it.

    `class_name` None asks for the predicted class; with `against`, why the one and not the other.
    """

    class_name: str | None = None
    against: str | None = None
    method: str = "gradcam"
    style: Style = field(default_factory=Style)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction and its reasons; `class_name` is the class that was explained."""

    prediction: Prediction
    class_name: str
    against: str | None
    method: str
    layer: str
    heatmap: Heatmap
    overlay: Overlay


@dataclass(frozen=True, slots=True)
class _Exposure:
    """What is kept of an image while it waits for the model: all of its pixels would be too many.

    `pixels` is what the network takes, uint8 `[H, W, C]`; `canvas` the image at the size that its overlay will have.
    """

    original: Original
    pixels: UInt8Array
    canvas: Image.Image


class Analyzer:
    """Answers questions about images with one loaded model; nothing of it blocks the event loop.

    Inference has one thread: TensorFlow spreads a call over all cores by itself, and two calls at once only share
    them. Decoding and drawing have one thread per core, which bounds how many whole images are in memory at once. Both
    are pools of its own: work that a deadline has passed before it began is dropped, work that has begun keeps its
    thread.
    """

    def __init__(
        self, runtime: Runtime, *, max_pixels: int, max_overlay_side: int, max_queue: int, timeout_s: float
    ) -> None:
        self.runtime = runtime
        self._max_pixels = max_pixels
        self._max_overlay_side = max_overlay_side
        self._max_queue = max_queue
        self._timeout_s = timeout_s
        self._admitted = 0
        self._pictures = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="picture")
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")

    def close(self) -> None:
        """Drop what has not begun, and let the threads end."""
        for pool in (self._pictures, self._inference):
            pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def admission(self) -> AsyncIterator[None]:
        """One request's stay, from its first byte to its answer: counted, and bounded in time.

        Raises:
            QueueFullError: as many as the limit are inside.
            DeadlineExceededError: the time is over.
        """
        if self._admitted >= self._max_queue:
            raise QueueFullError(f"{self._max_queue} requests are being answered already; try again later")
        self._admitted += 1
        try:
            with anyio.fail_after(self._timeout_s):
                yield
        except TimeoutError as error:
            raise DeadlineExceededError(f"no result within {self._timeout_s:g} s") from error
        finally:
            self._admitted -= 1

    @property
    def manifest(self) -> Manifest:
        return self.runtime.manifest

    async def predict(self, data: bytes) -> Prediction:
        """Score one encoded image.

        Raises:
            InputError: the image can't be used; the subclass says why.
        """
        exposure = await _run(self._pictures, lambda: self._expose(data))
        scores = await _run(self._inference, lambda: self.runtime.predict(exposure.pixels[None]))
        return self._prediction(exposure.original, scores.probabilities[0], scores.novelty[0])

    async def explain(self, data: bytes, question: Question) -> Explanation:
        """Score one encoded image and show where the evidence for the asked class lies, from one forward pass.

        Raises:
            InputError: the image or the question can't be used; the subclass says why.
        """
        method = cam_method(question.method)
        targets = self._targets(question)
        exposure = await _run(self._pictures, lambda: self._expose(data))
        evidence = await _run(self._inference, lambda: self.runtime.evidence(exposure.pixels[None], targets[None]))
        prediction = self._prediction(exposure.original, evidence.probabilities[0], evidence.novelty[0])
        if question.against is not None and question.class_name is None and question.against == prediction.label:
            raise QuestionError(f"{question.against!r} is the predicted class itself; say which 'class' to explain")
        heatmap = normalise(method(evidence.features[0], _contrast(evidence.gradients[0])))
        overlay = await _run(self._pictures, lambda: self._draw(exposure, heatmap, question.style))
        return Explanation(
            prediction=prediction,
            class_name=question.class_name or prediction.label,
            against=question.against,
            method=question.method,
            layer=self.manifest.feature_layer.name,
            heatmap=heatmap,
            overlay=overlay,
        )

    def _expose(self, data: bytes) -> _Exposure:
        spec = self.manifest.input
        picture = decode(data, max_pixels=self._max_pixels)
        pixels = to_input(picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit)
        original = Original(picture.width, picture.height, picture.format)
        return _Exposure(original, pixels, reduced(picture.image, self._max_overlay_side))

    def _draw(self, exposure: _Exposure, heatmap: Heatmap, style: Style) -> Overlay:
        spec, original, canvas = self.manifest.input, exposure.original, exposure.canvas
        region = seen_region(original.width, original.height, spec.width, spec.height, spec.fit)
        region = region.scaled(canvas.width / original.width, canvas.height / original.height)
        return render(canvas, heatmap.values, region, style, max_side=self._max_overlay_side)

    def _prediction(self, original: Original, probabilities: Float32Array, novelty: np.float32) -> Prediction:
        spec = self.manifest.novelty
        return Prediction(
            original=original,
            probabilities=dict(zip(self.manifest.classes, map(float, probabilities), strict=True)),
            novelty=None if spec is None else Novelty(float(novelty), spec.threshold),
        )

    def _targets(self, question: Question) -> Float32Array:
        """What to differentiate: `[1, classes]`, or `[2, classes]` where `against` is to be subtracted."""
        if question.against is not None and question.against == question.class_name:
            raise QuestionError(f"'class' and 'against' are both {question.against!r}; ask about two classes")
        rows = [self._one_hot(question.class_name)]
        if question.against is not None:
            rows.append(self._one_hot(question.against))
        return np.stack(rows)

    def _one_hot(self, class_name: str | None) -> Float32Array:
        """The target `[classes]` of one class; None, all zeros, asks for the predicted one."""
        classes = self.manifest.classes
        if class_name is None:
            return np.zeros(len(classes), np.float32)
        if class_name not in classes:
            raise UnknownNameError("class", class_name, classes)
        return np.eye(len(classes), dtype=np.float32)[classes.index(class_name)]


def _contrast(gradients: Float32Array) -> Float32Array:
    """∂(y_a − y_b)/∂A `[h, w, K]` from ∂y_a/∂A and, where asked, ∂y_b/∂A `[T, h, w, K]`.

    The gradient is linear in its target, so the predicted class can be contrasted before anyone knows which it is.
    """
    return gradients[0] if len(gradients) == 1 else gradients[0] - gradients[1]


async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Wait for `call` in a thread of `pool`; when the wait is cancelled, a call that has not begun never does."""
    return await asyncio.wrap_future(pool.submit(call))
