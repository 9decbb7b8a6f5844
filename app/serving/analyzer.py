"""What the service does with an image: predict, and explain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from PIL import Image

from app import __version__
from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Evidence, Runtime, Scores
from app.errors import QuestionError
from app.explain.cams import Heatmap, HeatmapSeries, cam_method, normalise, normalise_together, raw_maps
from app.explain.faithfulness import Faithfulness, judge, plan
from app.explain.provenance import Receipt, receipt, target_of
from app.explain.question import Question
from app.explain.warnings import header_warnings, heatmap_warnings, prediction_warnings
from app.imaging.decoding import decode, to_input
from app.imaging.geometry import seen_region
from app.imaging.overlay import Overlay, reduced, render
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
class _Exposure:
    """What is kept of an image while it waits for the model: all of its pixels would be too many.

    `pixels` is what the network takes, uint8 `[H, W, C]`; `canvas` the image at the size that its overlay will have.
    """

    original: Original
    pixels: UInt8Array
    canvas: Image.Image


@dataclass(frozen=True, slots=True)
class _Maps:
    """What one image's evidence becomes."""

    heatmap: Heatmap
    classes: HeatmapSeries | None
    overlay: Overlay
    receipt: Receipt


class Analyzer:
    """One loaded model and what is done around it. Use it from one event loop.

    Pictures are decoded and drawn in the workers' threads, the model is asked through a batcher; what nobody waits for
    any more is dropped before it begins.
    """

    def __init__(self, runtime: Runtime, workers: Workers, telemetry: Telemetry, limits: Limits) -> None:
        self.runtime = runtime
        self._workers = workers
        self._telemetry = telemetry
        self._limits = limits
        self._tensorflow = version("tensorflow")  # read once: it searches the disk
        self._batcher = Batcher(
            runtime, workers, telemetry, max_batch_size=limits.max_batch_size, window_s=limits.batch_window_s
        )

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

        All of it comes from one forward pass, but for `faithfulness`, which asks the model about many variants.

        Raises:
            InputError: the image or the question can't be used; the subclass says why.
        """
        manifest = self.manifest
        question.check(manifest.classes)
        if question.faithfulness and not self._limits.faithfulness_maps:
            raise QuestionError("'faithfulness' is switched off in this service")
        exposure = await self._exposed(data, frame)
        evidence = await self._batcher.evidence(exposure.pixels, question.targets(manifest.classes))
        prediction = self._prediction(exposure.original, evidence)
        if question.against is not None and question.class_name is None and question.against == prediction.label:
            raise QuestionError(f"{question.against!r} is the predicted class itself; say which 'class' to explain")
        explained = question.class_name or prediction.label
        maps = await self._workers.picture(lambda: self._mapped(data, exposure, evidence, question, explained))
        judged = question.faithfulness and not maps.heatmap.empty
        return Explanation(
            prediction=prediction,
            class_name=explained if cam_method(question.method).class_specific else None,
            against=question.against,
            counterfactual=question.counterfactual,
            method=question.method,
            layer=manifest.feature_layer.name,
            heatmap=maps.heatmap,
            class_maps=maps.classes,
            overlay=maps.overlay,
            faithfulness=await self._faithfulness(exposure, maps.heatmap, question, explained) if judged else None,
            receipt=maps.receipt,
            warnings=(*prediction.warnings, *heatmap_warnings(manifest, question.method, maps.heatmap)),
        )

    async def secondary_capture(self, data: bytes, explanation: Explanation, *, frame: int | None = None) -> bytes:
        """The overlay of `explanation` as a DICOM object in the study of `data`, the DICOM object that was explained.

        Raises:
            CorruptImageError: the header of `data` can't be copied.
        """
        manifest = self.manifest
        model = f"model {manifest.name} version {manifest.version}"

        def made() -> bytes:
            # Few ask for one, and the library behind it takes 44 MB and half a second.
            from app.imaging.dicom.secondary_capture import secondary_capture  # noqa: PLC0415

            return secondary_capture(
                data,
                np.asarray(explanation.overlay.picture),
                derivation=f"Lightbox {__version__}: {explanation.question} at layer {explanation.layer} of {model}",
                series_description=f"Lightbox {explanation.method} {explanation.class_name or ''}".strip(),
                notice=manifest.intended_use,
                frame=frame,
            )

        return await self._workers.picture(made)

    async def _exposed(self, data: bytes, frame: int | None) -> _Exposure:
        with self._batcher.approach():
            return await self._workers.picture(lambda: self._expose(data, frame))

    def _expose(self, data: bytes, frame: int | None) -> _Exposure:
        spec = self.manifest.input
        with self._telemetry.stage("decode"):
            picture = decode(data, max_pixels=self._limits.max_pixels, frame=frame)
            pixels = to_input(picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit)
            warnings = (*picture.warnings, *(header_warnings(picture.facts, spec.expects) if picture.facts else ()))
            original = Original(picture.width, picture.height, picture.format, warnings)
            return _Exposure(original, pixels, reduced(picture.image, self._limits.max_overlay_side))

    def _mapped(
        self, data: bytes, exposure: _Exposure, evidence: Evidence, question: Question, explained: str
    ) -> _Maps:
        method, manifest = cam_method(question.method), self.manifest
        with self._telemetry.stage("render"):
            heatmap = normalise(method(evidence.features, question.gradient(evidence.gradients)))
            classes = None
            if question.all_classes:
                gradients = question.class_gradients(evidence.gradients)
                classes = normalise_together(raw_maps(method, evidence.features, gradients))
            target = (0.0,) * len(manifest.classes)
            if method.class_specific:
                target = target_of(
                    manifest, explained, against=question.against, counterfactual=question.counterfactual
                )
            made_from = receipt(manifest, data, question.method, target, tensorflow=self._tensorflow)
            return _Maps(heatmap, classes, self._overlay(exposure, heatmap, question), made_from)

    def _overlay(self, exposure: _Exposure, heatmap: Heatmap, question: Question) -> Overlay:
        spec, original, canvas = self.manifest.input, exposure.original, exposure.canvas
        region = seen_region(original.width, original.height, spec.width, spec.height, spec.fit)
        region = region.scaled(canvas.width / original.width, canvas.height / original.height)
        return render(canvas, heatmap.values, region, question.style, max_side=self._limits.max_overlay_side)

    async def _faithfulness(
        self, exposure: _Exposure, heatmap: Heatmap, question: Question, explained: str
    ) -> Faithfulness:
        """Ask the model about the variants of a plan, by ordinary batches.

        No more than half a batch is under way at a time, so that other requests find room in every batch.
        """
        steps, random_maps = self._limits.faithfulness_steps, self._limits.faithfulness_maps
        asked = await self._workers.picture(
            lambda: plan(exposure.pixels, heatmap.values, steps=steps, random_maps=random_maps)
        )
        scored = self._scored(explained, question)
        answers = np.empty(len(asked), np.float32)
        variants = enumerate(asked.images())

        async def ask() -> None:
            for number, pixels in variants:
                answers[number] = scored((await self._batcher.predict(pixels)).probabilities)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self._limits.max_batch_size // 2)):
                group.create_task(ask())
        return await self._workers.picture(lambda: judge(asked, answers))

    def _scored(self, explained: str, question: Question) -> Callable[[Float32Array], float]:
        """What a map is judged by: the probability of its class; against another, of the two; reversed where it is."""
        index = {name: number for number, name in enumerate(self.manifest.classes)}

        def score(probabilities: Float32Array) -> float:
            share = float(probabilities[index[explained]])
            if question.against is not None:
                other = float(probabilities[index[question.against]])
                share = share / (share + other) if share + other else 0.5
            return 1.0 - share if question.counterfactual else share

        return score

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
