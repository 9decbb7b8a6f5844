"""Results as HTTP responses: JSON, or a file with headers. Call these in a worker, as large results take time."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any
from urllib.parse import quote

from app import __version__
from app.api.schemas import (
    BoxOut,
    ClassMapOut,
    ClassMapsOut,
    ClassProbability,
    CurveOut,
    ExplanationOut,
    ExplanationPart,
    FaithfulnessOut,
    HeatmapOut,
    ImageOut,
    ModelOut,
    ModelRef,
    ModelSummary,
    NoveltyOut,
    OutlineOut,
    OverlayOut,
    PredictionOut,
    ReceiptOut,
    RefusedOut,
    RegionOut,
    WarningOut,
)
from app.arrays import Float32Array
from app.artifact.manifest import Manifest
from app.explain.cams import METHODS, HeatmapSeries
from app.explain.faithfulness import Faithfulness
from app.explain.provenance import Receipt
from app.imaging.encoders import EncodedPicture
from app.imaging.headers import EncodedImage
from app.serving.answers import Explanation, Prediction
from app.serving.interface import ModelState

# Servers and proxies limit the size of headers, and a model can have any number of classes.
_HEADER_CLASSES = 10

HEADERS = [
    "X-Lightbox-Model",
    "X-Lightbox-Label",
    "X-Lightbox-Labels",
    "X-Lightbox-Probability",
    "X-Lightbox-Probabilities",
    "X-Lightbox-Class",
    "X-Lightbox-Empty",
    "X-Lightbox-Box",
    "X-Lightbox-Region",
    "X-Lightbox-Warnings",
    "X-Lightbox-Notice",
    "X-Lightbox-Out-Of-Distribution",
]


def prediction_json(request_id: str, manifest: Manifest, prediction: Prediction, top: int | None) -> bytes:
    """Serialize the response of `/predict`."""
    return prediction_text(PredictionOut(**_prediction_fields(request_id, manifest, prediction, top))).encode()


def explanation_json(request_id: str, manifest: Manifest, explanation: Explanation, top: int | None) -> bytes:
    """Serialize the response of `/explain`."""
    return prediction_text(explanation_out(request_id, manifest, explanation, top)).encode()


def prediction_text(answer: PredictionOut, *, without: frozenset[str] = frozenset()) -> str:
    """Return an answer as JSON; `without` names fields to leave out."""
    # Single-label models have no `labels`, rather than null ones: their answer is what it was before there were others.
    return answer.model_dump_json(
        by_alias=True, exclude=set(without if answer.labels is not None else without | {"labels"})
    )


def explanation_out(request_id: str, manifest: Manifest, explanation: Explanation, top: int | None) -> ExplanationOut:
    """Return the response of `/explain`."""
    values, question = explanation.heatmap.values, explanation.question
    part = ExplanationPart(
        method=question.method,
        class_name=explanation.class_name,
        against=question.against,
        counterfactual=question.counterfactual,
        layer=explanation.layer,
        empty=explanation.heatmap.empty,
        box=BoxOut(**dataclasses.asdict(explanation.box)) if explanation.box else None,
        heatmap=HeatmapOut(
            height=values.shape[0],
            width=values.shape[1],
            values=values.tolist(),
            raw_max=explanation.heatmap.raw_max,
        ),
        overlay=_overlay(explanation.overlay) if explanation.overlay else None,
        all_classes=_class_maps(manifest, explanation.class_maps) if explanation.class_maps else None,
        faithfulness=_faithfulness(explanation.faithfulness) if explanation.faithfulness else None,
        outline=None if explanation.outline is None else _outline(explanation.outline),
    )
    fields = _prediction_fields(request_id, manifest, explanation.prediction, top)
    fields["warnings"] = _warnings(explanation)
    region = RegionOut(**dataclasses.asdict(explanation.region)) if explanation.region else None
    return ExplanationOut(**fields, explanation=part, region=region, receipt=_receipt(explanation.receipt))


def secondary_capture_file(
    manifest: Manifest, image: EncodedImage, explanation: Explanation, frame: int | None
) -> bytes:
    """Create a DICOM object of the overlay, in the study of `image`, which is the DICOM object that was explained.

    Raises:
        CorruptImageError: if the header of `image` is damaged.
    """
    # Imported on first use: highdicom takes 44 MB and half a second, and few requests need it.
    from app.imaging.dicom.secondary_capture import secondary_capture  # noqa: PLC0415

    assert explanation.picture is not None
    question = explanation.question.description(explanation.class_name)
    model = f"model {manifest.name} version {manifest.version}"
    return secondary_capture(
        image.data,
        explanation.picture,
        derivation=f"Lightbox {__version__}: {question} at layer {explanation.layer} of {model}",
        series_description=f"Lightbox {explanation.question.method} {explanation.class_name or ''}".strip(),
        notice=manifest.intended_use,
        frame=frame,
    )


def file_headers(manifest: Manifest, explanation: Explanation) -> dict[str, str]:
    """Return the headers of a file response, which carry the main facts of the JSON.

    They contain the ten most probable classes at most.
    """
    prediction = explanation.prediction
    headers = {
        "Vary": "Accept",
        "X-Lightbox-Model": f"{manifest.name}/{manifest.version}",
        "X-Lightbox-Label": _header_text(prediction.label),
        "X-Lightbox-Probability": f"{prediction.probabilities[prediction.label]:.6f}",
        "X-Lightbox-Probabilities": json.dumps(prediction.top(_HEADER_CLASSES)),
        "X-Lightbox-Class": _header_text(explanation.class_name or ""),
        "X-Lightbox-Empty": str(explanation.heatmap.empty).lower(),
        "X-Lightbox-Warnings": ", ".join(warning.code for warning in explanation.warnings),
        "X-Lightbox-Notice": _header_text(manifest.intended_use),
    }
    if explanation.box is not None:
        headers["X-Lightbox-Box"] = json.dumps(dataclasses.asdict(explanation.box))
    if explanation.region is not None:
        headers["X-Lightbox-Region"] = json.dumps(dataclasses.asdict(explanation.region))
    if prediction.labels is not None:
        headers["X-Lightbox-Labels"] = json.dumps(prediction.labels)
    if prediction.novelty is not None:
        headers["X-Lightbox-Out-Of-Distribution"] = str(prediction.novelty.out_of_distribution).lower()
    return headers


def summary_out(state: ModelState) -> ModelSummary:
    """Return the entry of one model in the response of `/models`."""
    return ModelSummary(**_summary_fields(state))


def model_out(state: ModelState, manifest: Manifest) -> ModelOut:
    """Return the response of `/models/<name>`."""
    facts = manifest.model_dump(mode="json", exclude={"name", "version", "files", "schema_version"})
    return ModelOut(**_summary_fields(state), **facts, described=manifest.version, methods=list(METHODS))


def _overlay(drawn: EncodedPicture) -> OverlayOut:
    data = base64.b64encode(drawn.data).decode("ascii")
    return OverlayOut(media_type=drawn.media_type, width=drawn.width, height=drawn.height, data=data)


def _receipt(receipt: Receipt) -> ReceiptOut:
    tensorflow = receipt.library_version if receipt.library == "tensorflow" else None
    return ReceiptOut(**dataclasses.asdict(receipt), tensorflow=tensorflow)


def _summary_fields(state: ModelState) -> dict[str, Any]:
    return {
        "name": state.name,
        "default": state.default,
        "version": state.served,
        "versions": state.versions,
        "loaded": state.loaded,
        "refused": [RefusedOut(version=version, reason=reason) for version, reason in state.refused.items()],
        "device": state.device,
    }


def _prediction_fields(request_id: str, manifest: Manifest, prediction: Prediction, top: int | None) -> dict[str, Any]:
    novelty, original = prediction.novelty, prediction.original
    best = None if top is None else prediction.top(top)
    return {
        "id": request_id,
        "model": ModelRef(name=manifest.name, version=manifest.version),
        "label": prediction.label,
        "labels": None if prediction.labels is None else list(prediction.labels),
        "probability": prediction.probabilities[prediction.label],
        "probabilities": prediction.probabilities,
        "top_k": best and [ClassProbability(class_name=name, probability=value) for name, value in best.items()],
        "novelty": novelty
        and NoveltyOut(
            score=novelty.score, threshold=novelty.threshold, out_of_distribution=novelty.out_of_distribution
        ),
        "image": ImageOut(width=original.width, height=original.height, format=original.format),
        "warnings": _warnings(prediction),
        "notice": manifest.intended_use,
    }


def _warnings(answer: Prediction | Explanation) -> list[WarningOut]:
    return [WarningOut(code=warning.code, detail=warning.detail) for warning in answer.warnings]


def _class_maps(manifest: Manifest, series: HeatmapSeries) -> ClassMapsOut:
    named = zip(manifest.classes, series.values, strict=True)
    maps = [ClassMapOut(class_name=name, values=values.tolist()) for name, values in named]
    return ClassMapsOut(raw_max=series.raw_max, maps=maps)


def _outline(regions: Float32Array) -> OutlineOut:
    return OutlineOut(height=regions.shape[0], width=regions.shape[1], values=regions.tolist())


def _faithfulness(judged: Faithfulness) -> FaithfulnessOut:
    heatmap, random, fractions = judged.heatmap, judged.random, list(judged.fractions)
    return FaithfulnessOut(
        deletion=CurveOut(
            fractions=fractions,
            probabilities=list(heatmap.deletion),
            area=heatmap.deletion_area,
            random_probabilities=list(random.deletion),
            random_area=random.deletion_area,
        ),
        insertion=CurveOut(
            fractions=fractions,
            probabilities=list(heatmap.insertion),
            area=heatmap.insertion_area,
            random_probabilities=list(random.insertion),
            random_area=random.insertion_area,
        ),
        average_drop=heatmap.average_drop,
        average_increase=heatmap.average_increase,
        random_average_drop=random.average_drop,
        random_average_increase=random.average_increase,
        random_maps=judged.random_maps,
        p_better=judged.p_better,
        p_worse=judged.p_worse,
        better_than_random=judged.better_than_random,
        worse_than_random=judged.worse_than_random,
        blur_sigma=judged.sigma,
        images=judged.images,
    )


def _header_text(text: str) -> str:
    """Encode `text` for a header: printable ASCII stays, everything else becomes percent-encoded UTF-8."""
    return quote(text, safe="".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%"))
