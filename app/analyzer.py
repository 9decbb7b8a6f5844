"""What the service does with an image: predict, and explain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from app import __version__
from app.arrays import Float32Array, UInt8Array
from app.artifact import Manifest
from app.batching import Batcher
from app.cams import Cam, Heatmap, cam_method, normalise
from app.decoding import decode, to_input
from app.dicom import contradictions
from app.errors import QuestionError, UnknownNameError
from app.geometry import seen_region
from app.overlay import Overlay, Style, reduced, render
from app.picture import Remark
from app.runtimes.base import Evidence, Runtime, Scores
from app.secondary_capture import secondary_capture
from app.telemetry import Telemetry
from app.workers import Workers


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
    """What an image was, upright: its size in pixels, the container that it came in, and what to mind about it."""

    width: int
    height: int
    format: str
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer: `probabilities` by class name, in logit order; `novelty` None where the model has none.

    `warnings` are what a reader of the answer has to mind.
    """

    original: Original
    probabilities: dict[str, float]
    novelty: Novelty | None
    warnings: tuple[Remark, ...] = ()

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
    """One loaded model and what is done around it. Use it from one event loop.

    Pictures are decoded and drawn in the workers' threads, the model is asked through a batcher; what nobody waits for
    any more is dropped before it begins.
    """

    def __init__(
        self,
        runtime: Runtime,
        workers: Workers,
        telemetry: Telemetry,
        *,
        max_pixels: int,
        max_overlay_side: int,
        max_batch_size: int,
        batch_window_s: float,
    ) -> None:
        self.runtime = runtime
        self._workers = workers
        self._telemetry = telemetry
        self._max_pixels = max_pixels
        self._max_overlay_side = max_overlay_side
        self._batcher = Batcher(runtime, workers, telemetry, max_batch_size=max_batch_size, window_s=batch_window_s)

    @property
    def manifest(self) -> Manifest:
        return self.runtime.manifest

    async def predict(self, data: bytes, *, frame: int | None = None) -> Prediction:
        """Score one encoded image, or one `frame` of it, from 1.

        Raises:
            InputError: the image can't be used; the subclass says why.
        """
        exposure = await self._exposed(data, frame)
        scores = await self._batcher.predict(exposure.pixels)
        return self._prediction(exposure.original, scores)

    async def explain(self, data: bytes, question: Question, *, frame: int | None = None) -> Explanation:
        """Score one encoded image, or one `frame` of it, and show where the evidence for the asked class lies.

        All of it comes from one forward pass.

        Raises:
            InputError: the image or the question can't be used; the subclass says why.
        """
        method = cam_method(question.method)
        targets = self._targets(question)
        exposure = await self._exposed(data, frame)
        evidence = await self._batcher.evidence(exposure.pixels, targets)
        prediction = self._prediction(exposure.original, evidence)
        if question.against is not None and question.class_name is None and question.against == prediction.label:
            raise QuestionError(f"{question.against!r} is the predicted class itself; say which 'class' to explain")
        heatmap, overlay = await self._workers.picture(lambda: self._drawn(exposure, evidence, method, question.style))
        return Explanation(
            prediction=prediction,
            class_name=question.class_name or prediction.label,
            against=question.against,
            method=question.method,
            layer=self.manifest.feature_layer.name,
            heatmap=heatmap,
            overlay=overlay,
        )

    async def secondary_capture(self, data: bytes, explanation: Explanation, *, frame: int | None = None) -> bytes:
        """The overlay of `explanation` as a DICOM object in the study of `data`, the DICOM object that was explained.

        Raises:
            CorruptImageError: the header of `data` can't be copied.
        """
        manifest, against = self.manifest, f" against {explanation.against}" if explanation.against else ""
        what = f"{explanation.method} for {explanation.class_name}{against}"
        return await self._workers.picture(
            lambda: secondary_capture(
                data,
                explanation.overlay.pixels,
                derivation=f"Lightbox {__version__}: {what} at layer {explanation.layer} of model {manifest.name} "
                f"version {manifest.version}",
                series_description=f"Lightbox {what}",
                notice=manifest.intended_use,
                frame=frame,
            )
        )

    async def _exposed(self, data: bytes, frame: int | None) -> _Exposure:
        with self._batcher.approach():
            return await self._workers.picture(lambda: self._expose(data, frame))

    def _expose(self, data: bytes, frame: int | None) -> _Exposure:
        spec = self.manifest.input
        with self._telemetry.stage("decode"):
            picture = decode(data, max_pixels=self._max_pixels, frame=frame)
            pixels = to_input(picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit)
            remarks = (*picture.remarks, *(contradictions(picture.facts, spec.expects) if picture.facts else ()))
            original = Original(picture.width, picture.height, picture.format, remarks)
            return _Exposure(original, pixels, reduced(picture.image, self._max_overlay_side))

    def _drawn(self, exposure: _Exposure, evidence: Evidence, method: Cam, style: Style) -> tuple[Heatmap, Overlay]:
        with self._telemetry.stage("render"):
            heatmap = normalise(method(evidence.features, _contrast(evidence.gradients)))
            spec, original, canvas = self.manifest.input, exposure.original, exposure.canvas
            region = seen_region(original.width, original.height, spec.width, spec.height, spec.fit)
            region = region.scaled(canvas.width / original.width, canvas.height / original.height)
            return heatmap, render(canvas, heatmap.values, region, style, max_side=self._max_overlay_side)

    def _prediction(self, original: Original, row: Scores | Evidence) -> Prediction:
        """The answer for one image from its row of a batch."""
        manifest, spec = self.manifest, self.manifest.novelty
        prediction = Prediction(
            original=original,
            probabilities=dict(zip(manifest.classes, map(float, row.probabilities), strict=True)),
            novelty=None if spec is None else Novelty(float(row.novelty), spec.threshold),
            warnings=original.remarks,
        )
        which = (manifest.name, str(manifest.version))
        self._telemetry.metrics.predictions.labels(*which, prediction.label).inc()
        if prediction.novelty is not None and prediction.novelty.out_of_distribution:
            self._telemetry.metrics.novel_images.labels(*which).inc()
        return prediction

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
