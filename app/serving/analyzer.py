"""The analyzer, which predicts and explains images with one model."""

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
from app.explain.faithfulness import Faithfulness, judge, plan, visible_cells
from app.explain.provenance import receipt
from app.explain.question import Question, target_probability
from app.explain.regions import RegionShare, covered_box, region_share, ungated
from app.explain.warnings import header_warnings, heatmap_warnings, prediction_warnings, region_warnings
from app.imaging.decoding import decode, to_input
from app.imaging.encoders import encode_picture
from app.imaging.geometry import Box, Region, seen_region
from app.imaging.network_input import InputImage, NetworkInput
from app.imaging.outline import draw_outline
from app.imaging.overlay import Style, downscaled, draw_overlay
from app.serving.answers import Explanation, Novelty, Original, Prediction
from app.serving.batching import Batcher, Rendezvous
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an analyzer.

    `max_pixels` is the largest size of an image, and `max_overlay_side` the longest side of an overlay, both in pixels.
    A model call has at most `max_batch_size` images and waits at most `batch_window_s` seconds for them. The judgement
    of faithfulness takes `faithfulness_steps` points of a curve and `faithfulness_maps` random maps, 0 to turn it off.
    """

    max_pixels: int
    max_overlay_side: int
    max_batch_size: int
    batch_window_s: float
    faithfulness_steps: int = 4
    faithfulness_maps: int = 19


@dataclass(frozen=True, slots=True)
class Drawing:
    """A request for an overlay: its `style`, and whether it is `encoded` as a file or returned as pixels."""

    style: Style
    encoded: bool = True


@dataclass(frozen=True, slots=True)
class _PreparedImage:
    """An image that is ready for the model. It does not keep the original pixels, which would take too much memory.

    `source` is what the request sent, and `pixels` the input of the network, uint8 `[H, W, C]`. `canvas` is the image
    at the size of its overlay, or None if no overlay is wanted.
    """

    source: InputImage
    original: Original
    pixels: UInt8Array
    canvas: Image.Image | None


class Analyzer:
    """Predicts and explains images with one loaded model. Use it from one event loop.

    It decodes images and draws overlays in worker threads, and calls the model through a batcher. If the caller is
    cancelled, work that has not started is dropped.
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

    def check(self, question: Question) -> None:
        """Check that this model can answer `question`.

        Raises:
            QuestionError: if it can't; the message says why.
        """
        question.check(self.manifest.classes, locates_organ=self.manifest.region is not None)
        if question.faithfulness and not self._limits.faithfulness_maps:
            raise QuestionError("'faithfulness' is turned off in this service; leave it out")

    async def predict(
        self, image: InputImage, *, frame: int | None = None, together: Rendezvous | None = None
    ) -> Prediction:
        """Predict the class probabilities of one image.

        Args:
            image: the image file, or pixels of the shape that the network takes.
            frame: the frame of a DICOM object, counted from 1; None if it has only one.
            together: where the images of one request meet before they enter the queue, so that they share a batch.

        Raises:
            InputError: if the image can't be used; the subclass says why.
        """
        prepared = await self._prepare(image, frame, together, canvas=False)
        scores = await self._batcher.predict(prepared.pixels)
        return self._prediction(prepared.original, scores)

    async def explain(
        self,
        image: InputImage,
        question: Question,
        drawing: Drawing | None = None,
        *,
        frame: int | None = None,
        together: Rendezvous | None = None,
    ) -> Explanation:
        """Predict the class probabilities of one image and locate the evidence that `question` asks for.

        Everything comes from one forward pass, except `faithfulness`, for which the model scores many variants.

        Args:
            image: the image file, or pixels of the shape that the network takes.
            question: what to explain.
            drawing: the overlay to draw; None for none.
            frame: the frame of a DICOM object, counted from 1; None if it has only one.
            together: where the images of one request meet before they enter the queue, so that they share a batch.

        Raises:
            InputError: if the image can't be used or the question can't be answered; the subclass says why.
        """
        self.check(question)
        classes = self.manifest.classes
        prepared = await self._prepare(image, frame, together, canvas=drawing is not None)
        evidence = await self._batcher.evidence(prepared.pixels, question.rows(classes))
        prediction = self._prediction(prepared.original, evidence)
        explanation = await self._workers.run(
            lambda: self._explanation(prepared, prediction, evidence, question, drawing)
        )
        if not question.faithfulness or explanation.heatmap.empty:
            return explanation
        target = question.target(classes, prediction.label)
        if not target.any():  # the method is not class-specific: judge its map by the predicted class
            target = Question().target(classes, prediction.label)
        faithfulness = await self._faithfulness(
            prepared.pixels, explanation.heatmap.values, target, explanation.receipt.box
        )
        return replace(explanation, faithfulness=faithfulness)

    def _explanation(
        self,
        prepared: _PreparedImage,
        prediction: Prediction,
        evidence: Evidence,
        question: Question,
        drawing: Drawing | None,
    ) -> Explanation:
        """Answer `question` from `evidence`, without faithfulness."""
        class_name = question.explained_class(prediction.label)
        target = question.target(self.manifest.classes, prediction.label)
        with self._telemetry.stage("render"):
            heatmap, class_maps = _heatmaps(evidence, question)
            box = covered_box(self.manifest.feature_layer, evidence.box)
            covered = self._covered(prepared.original, box)
            region = self._region_share(evidence, question, heatmap, covered, prepared.original)
            outline = evidence.regions if question.outline else None
            picture = None
            if drawing is not None:
                picture = self._draw(prepared, heatmap, covered, drawing.style, outline)
            overlay = None
            if drawing is not None and picture is not None and drawing.encoded:
                overlay, picture = encode_picture(picture, drawing.style.format), None
            return Explanation(
                prediction=prediction,
                question=question,
                class_name=class_name,
                layer=self.manifest.feature_layer.name,
                heatmap=heatmap,
                class_maps=class_maps,
                picture=None if picture is None else np.asarray(picture),
                overlay=overlay,
                faithfulness=None,
                receipt=receipt(
                    self.manifest, prepared.source.data, question.method, target.tolist(), self.runtime.library, box
                ),
                warnings=(
                    *prediction.warnings,
                    *heatmap_warnings(self.manifest, question.method, heatmap, box, region),
                ),
                box=None if evidence.box is None else covered,
                region=region,
                outline=outline,
            )

    def _covered(self, original: Original, box: Box) -> Region:
        """Return the region of the original, in pixels, that the part `box` of the input shows."""
        spec = self.manifest.input
        return seen_region(original.width, original.height, spec.width, spec.height, spec.fit).part(box)

    def _region_share(
        self, evidence: Evidence, question: Question, heatmap: Heatmap, covered: Region, original: Original
    ) -> RegionShare | None:
        """Measure how much of the heat lies in the organ that the model locates, on heat that no gate has shaped."""
        spec, regions = self.manifest.region, evidence.regions
        if spec is None or regions is None:
            return None
        if spec.gated:
            gradients = question.gradient(ungated(spec, evidence.gradients))
            heatmap = normalise(cam_method(question.method)(evidence.features, gradients))
        box = covered_box(self.manifest.feature_layer, evidence.box)
        return region_share(spec, heatmap.values, regions, box, covered.box(original.width, original.height))

    async def _prepare(
        self, image: InputImage, frame: int | None, together: Rendezvous | None, *, canvas: bool
    ) -> _PreparedImage:
        with self._batcher.expect():
            prepared = await self._workers.run(lambda: self._decode(image, frame, canvas=canvas))
            if together is not None:
                await together.wait()
            return prepared

    def _decode(self, image: InputImage, frame: int | None, *, canvas: bool) -> _PreparedImage:
        spec = self.manifest.input
        with self._telemetry.stage("decode"):
            if isinstance(image, NetworkInput):
                picture = image.picture(spec.height, spec.width, spec.channels, frame=frame)
            else:
                picture = decode(image, max_pixels=self._limits.max_pixels, frame=frame)
            pixels = to_input(
                picture,
                width=spec.width,
                height=spec.height,
                channels=spec.channels,
                fit=spec.fit,
                resize=spec.resize,
            )
            warnings = header_warnings(picture.facts, spec.expects) if picture.facts else ()
            original = Original(picture.width, picture.height, picture.format, (*picture.warnings, *warnings))
            small = downscaled(picture.image, self._limits.max_overlay_side) if canvas else None
            return _PreparedImage(image, original, pixels, small)

    def _draw(
        self, prepared: _PreparedImage, heatmap: Heatmap, covered: Region, style: Style, outline: Float32Array | None
    ) -> Image.Image:
        original, canvas = prepared.original, prepared.canvas
        assert canvas is not None
        region = covered.scaled(canvas.width / original.width, canvas.height / original.height)
        picture = draw_overlay(canvas, heatmap.values, region, style, max_side=self._limits.max_overlay_side)
        return picture if outline is None else draw_outline(picture, outline, region)

    async def _faithfulness(
        self, pixels: UInt8Array, heatmap: Float32Array, target: Float32Array, box: Box
    ) -> Faithfulness | None:
        """Judge `heatmap` by the scores of perturbed images, which share batches with other requests.

        At most half a batch of them is submitted at a time, so that every batch has room for other requests. The result
        is None if all heat lies outside the input, in the padding of a network that pads.
        """
        steps, random_maps = self._limits.faithfulness_steps, self._limits.faithfulness_maps
        cells, _ = visible_cells(heatmap, pixels.shape[0], pixels.shape[1], box)
        if not cells.any():
            return None
        planned = await self._workers.run(lambda: plan(pixels, heatmap, steps=steps, random_maps=random_maps, box=box))
        probabilities = np.empty(len(planned), np.float32)
        variants = enumerate(planned.images())

        async def score() -> None:
            for number, variant in variants:
                scores = await self._batcher.predict(variant)
                probabilities[number] = target_probability(target, scores.probabilities)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self._limits.max_batch_size // 2)):
                group.create_task(score())
        return await self._workers.run(lambda: judge(planned, probabilities))

    def _prediction(self, original: Original, scores: Scores | Evidence) -> Prediction:
        """Turn the scores of one image into a prediction, and count it."""
        manifest, spec = self.manifest, self.manifest.novelty
        probabilities = [float(value) for value in scores.probabilities]
        by_class = dict(zip(manifest.classes, probabilities, strict=True))
        labels = None
        if manifest.task == "multi_label":
            labels = tuple(name for name, value in by_class.items() if value >= manifest.threshold(name))
        not_found = region_warnings(manifest, scores.box, scores.regions)
        prediction = Prediction(
            original=original,
            probabilities=by_class,
            labels=labels,
            novelty=None if spec is None else Novelty(float(scores.novelty), spec.threshold),
            warnings=(
                *original.warnings,
                *prediction_warnings(manifest, probabilities, float(scores.novelty)),
                *not_found,
            ),
        )
        model = (manifest.name, str(manifest.version))
        for name in (prediction.label,) if labels is None else labels:
            self._telemetry.metrics.predictions.labels(*model, name).inc()
        if prediction.novelty is not None and prediction.novelty.out_of_distribution:
            self._telemetry.metrics.novel_images.labels(*model).inc()
        if not_found:
            self._telemetry.metrics.regions_not_found.labels(*model).inc()
        return prediction


def _heatmaps(evidence: Evidence, question: Question) -> tuple[Heatmap, HeatmapSeries | None]:
    """Return the heatmap that answers `question`, and those of all classes if it asks for them."""
    method = cam_method(question.method)
    heatmap = normalise(method(evidence.features, question.gradient(evidence.gradients)))
    if not question.all_classes:
        return heatmap, None
    raw = raw_maps(method, evidence.features, question.class_gradients(evidence.gradients))
    return heatmap, normalise_together(raw)
