"""What the service does with an image: predict, and explain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Evidence, Runtime, Scores
from app.errors import QuestionError
from app.explain.cams import Heatmap, HeatmapSeries, cam_method, normalise, normalise_together, raw_maps
from app.explain.faithfulness import Faithfulness, judge, plan
from app.explain.provenance import receipt
from app.explain.question import Question, target_probability
from app.explain.warnings import header_warnings, heatmap_warnings, prediction_warnings
from app.imaging.decoding import decode, to_input
from app.imaging.encoders import encode_picture
from app.imaging.geometry import seen_region
from app.imaging.headers import EncodedImage
from app.imaging.overlay import Style, draw_overlay, reduced
from app.serving.answers import Explanation, Novelty, Original, Prediction
from app.serving.batching import Batcher
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an analyzer takes on.

    `max_pixels` of an image; `max_overlay_side` in pixels; `max_batch_size` images in a model call, which waits
    `batch_window_s` at most; `faithfulness_steps` points of a curve and `faithfulness_maps` random maps to compare with
    (0: faithfulness is not judged).
    """

    max_pixels: int
    max_overlay_side: int
    max_batch_size: int
    batch_window_s: float
    faithfulness_steps: int = 4
    faithfulness_maps: int = 19


@dataclass(frozen=True, slots=True)
class Drawing:
    """The overlay that a caller wants: its `style`, and whether it has to be `encoded` as a file, too."""

    style: Style
    encoded: bool = True


@dataclass(frozen=True, slots=True)
class _PreparedImage:
    """What is kept of an image while it waits for the model; the original pixels would take too much memory.

    `pixels` is what the network takes, uint8 `[H, W, C]`; `canvas` the image at the size that its overlay will have,
    None where none is wanted.
    """

    original: Original
    pixels: UInt8Array
    canvas: Image.Image | None


class Analyzer:
    """One loaded model and what is done around it. Use it from one event loop.

    Images are decoded and overlays drawn in worker threads, the model is asked through a batcher; work whose caller is
    cancelled is dropped before it begins.
    """

    def __init__(self, runtime: Runtime, workers: Workers, telemetry: Telemetry, limits: Limits) -> None:
        self.runtime = runtime
        self._workers = workers
        self._telemetry = telemetry
        self._limits = limits
        self._batcher = Batcher(
            runtime, workers, telemetry, max_batch_size=limits.max_batch_size, window_s=limits.batch_window_s
        )

    @property
    def manifest(self) -> Manifest:
        return self.runtime.manifest

    async def predict(self, image: EncodedImage, *, frame: int | None = None) -> Prediction:
        """Score one image, or one `frame` of it, from 1.

        Raises:
            InputError: the image can't be used; the subclass says why.
        """
        prepared = await self._prepared(image, frame, canvas=False)
        scores = await self._batcher.predict(prepared.pixels)
        return self._prediction(prepared.original, scores)

    async def explain(
        self, image: EncodedImage, question: Question, drawing: Drawing | None = None, *, frame: int | None = None
    ) -> Explanation:
        """Score one image, or one `frame` of it, and show where the evidence for the asked class lies.

        All of it comes from one forward pass, except `faithfulness`, which asks the model about many variants.

        Args:
            image: the image file.
            question: what to explain.
            drawing: the overlay to draw; without one none is drawn.
            frame: which frame of a DICOM object, from 1; None where there is only one.

        Raises:
            InputError: the image or the question can't be used; the subclass says why.
        """
        classes = self.manifest.classes
        question.check(classes)
        if question.faithfulness and not self._limits.faithfulness_maps:
            raise QuestionError("'faithfulness' is switched off in this service")
        prepared = await self._prepared(image, frame, canvas=drawing is not None)
        evidence = await self._batcher.evidence(prepared.pixels, question.rows(classes))
        prediction = self._prediction(prepared.original, evidence)
        class_name = question.explained(prediction.label)
        target = question.target(classes, prediction.label)

        found = await self._workers.run(
            lambda: self._explained(image, prepared, evidence, prediction, question, class_name, target, drawing)
        )
        if not question.faithfulness or found.heatmap.empty:
            return found
        # A method that knows no classes has a target of zeros: the predicted class, as in the artefact.
        judged = target if target.any() else Question().target(classes, prediction.label)
        return replace(found, faithfulness=await self._faithfulness(prepared.pixels, found.heatmap, judged))

    def _explained(
        self,
        image: EncodedImage,
        prepared: _PreparedImage,
        evidence: Evidence,
        prediction: Prediction,
        question: Question,
        class_name: str | None,
        target: Float32Array,
        drawing: Drawing | None,
    ) -> Explanation:
        """What `evidence` says about the question; its faithfulness is not judged yet."""
        with self._telemetry.stage("render"):
            heatmap, class_maps = _maps(evidence, question)
            picture = None if drawing is None else self._drawn(prepared, heatmap, drawing.style)
            overlay = None
            if drawing is not None and picture is not None and drawing.encoded:
                overlay = encode_picture(picture, drawing.style.format)
            return Explanation(
                prediction=prediction,
                question=question,
                class_name=class_name,
                layer=self.manifest.feature_layer.name,
                heatmap=heatmap,
                class_maps=class_maps,
                picture=picture,
                overlay=overlay,
                faithfulness=None,
                receipt=receipt(self.manifest, image.data, question.method, target.tolist(), self.runtime.library),
                warnings=(*prediction.warnings, *heatmap_warnings(self.manifest, question.method, heatmap)),
            )

    async def _prepared(self, image: EncodedImage, frame: int | None, *, canvas: bool) -> _PreparedImage:
        with self._batcher.approach():
            return await self._workers.run(lambda: self._prepare(image, frame, canvas=canvas))

    def _prepare(self, image: EncodedImage, frame: int | None, *, canvas: bool) -> _PreparedImage:
        spec = self.manifest.input
        with self._telemetry.stage("decode"):
            picture = decode(image, max_pixels=self._limits.max_pixels, frame=frame)
            pixels = to_input(
                picture,
                width=spec.width,
                height=spec.height,
                channels=spec.channels,
                fit=spec.fit,
                resize=spec.resize,
            )
            contradicted = header_warnings(picture.facts, spec.expects) if picture.facts else ()
            original = Original(picture.width, picture.height, picture.format, (*picture.warnings, *contradicted))
            return _PreparedImage(
                original, pixels, reduced(picture.image, self._limits.max_overlay_side) if canvas else None
            )

    def _drawn(self, prepared: _PreparedImage, heatmap: Heatmap, style: Style) -> Image.Image:
        spec, original, canvas = self.manifest.input, prepared.original, prepared.canvas
        assert canvas is not None
        region = seen_region(original.width, original.height, spec.width, spec.height, spec.fit)
        if self.manifest.feature_layer.region is not None:
            region = region.part(self.manifest.feature_layer.region)
        region = region.scaled(canvas.width / original.width, canvas.height / original.height)
        return draw_overlay(canvas, heatmap.values, region, style, max_side=self._limits.max_overlay_side)

    async def _faithfulness(self, pixels: UInt8Array, heatmap: Heatmap, target: Float32Array) -> Faithfulness:
        """Ask the model about the variants of a plan, in ordinary batches.

        At most half a batch is under way at a time, so that other requests find room in every batch.
        """
        steps, random_maps = self._limits.faithfulness_steps, self._limits.faithfulness_maps
        asked = await self._workers.run(lambda: plan(pixels, heatmap.values, steps=steps, random_maps=random_maps))
        answers = np.empty(len(asked), np.float32)
        variants = enumerate(asked.images())

        async def ask() -> None:
            for number, variant in variants:
                answers[number] = target_probability(target, (await self._batcher.predict(variant)).probabilities)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self._limits.max_batch_size // 2)):
                group.create_task(ask())
        return await self._workers.run(lambda: judge(asked, answers))

    def _prediction(self, original: Original, row: Scores | Evidence) -> Prediction:
        """The answer for one image from its row of a batch."""
        manifest, spec = self.manifest, self.manifest.novelty
        probabilities = [float(value) for value in row.probabilities]
        prediction = Prediction(
            original=original,
            probabilities=dict(zip(manifest.classes, probabilities, strict=True)),
            novelty=None if spec is None else Novelty(float(row.novelty), spec.threshold),
            warnings=(*original.warnings, *prediction_warnings(manifest, probabilities, float(row.novelty))),
        )
        which = (manifest.name, str(manifest.version))
        self._telemetry.metrics.predictions.labels(*which, prediction.label).inc()
        if prediction.novelty is not None and prediction.novelty.out_of_distribution:
            self._telemetry.metrics.novel_images.labels(*which).inc()
        return prediction


def _maps(evidence: Evidence, question: Question) -> tuple[Heatmap, HeatmapSeries | None]:
    """The heatmap that answers the question, and those of every class where they are asked for."""
    method = cam_method(question.method)
    heatmap = normalise(method(evidence.features, question.gradient(evidence.gradients)))
    if not question.all_classes:
        return heatmap, None
    raw = raw_maps(method, evidence.features, question.class_gradients(evidence.gradients))
    return heatmap, normalise_together(raw)
