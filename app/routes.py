"""The HTTP interface: each route reads, asks the analyzer, and answers."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from app import overlay, page
from app.analyzer import Analyzer, Explanation, Prediction, Question
from app.artifact import Manifest, model_names, model_versions
from app.cams import METHODS
from app.errors import ModelNotLoadedError, QuestionError, UnknownModelError
from app.negotiation import JSON, best_type
from app.schemas import (
    ExplainQuery,
    ExplanationOut,
    ExplanationPart,
    Health,
    HeatmapOut,
    ImageOut,
    ModelOut,
    ModelRef,
    ModelsOut,
    ModelSummary,
    NoveltyOut,
    OverlayOut,
    PredictionOut,
    PredictQuery,
    Problem,
)
from app.settings import Settings
from app.upload import image_bytes

_IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "byte", "description": "base64"}},
                }
            },
        },
    }
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": "RFC 9457 problem details", "content": content} for status in statuses}


_PICTURES: dict[str, Any] = {
    f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in overlay.FORMATS
}
_REFUSALS = _problems(400, 406, 413, 415, 422, 503, 504)

router = APIRouter()


def loaded_analyzer(request: Request) -> Analyzer:
    """The analyzer, once the lifespan has loaded it."""
    analyzer: Analyzer | None = request.app.state.analyzer
    if analyzer is None:
        raise ModelNotLoadedError("no model is loaded (yet)")
    return analyzer


def once_each(request: Request) -> None:
    """Refuses a query parameter that is given twice: one of the two would be ignored."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise QuestionError(f"given more than once: {', '.join(repeated)[:80]}")


Loaded = Annotated[Analyzer, Depends(loaded_analyzer)]


async def read_image(request: Request) -> bytes:
    """The encoded image that the request carries."""
    return await image_bytes(await request.body(), request.headers)


@router.post("/predict", dependencies=[Depends(once_each)], openapi_extra=_IMAGE_BODY, responses=_REFUSALS)
async def predict(request: Request, analyzer: Loaded, _query: Annotated[PredictQuery, Query()]) -> PredictionOut:
    """The class probabilities of one image."""
    best_type(_accept(request), [JSON])
    async with analyzer.admission():
        prediction = await analyzer.predict(await read_image(request))
    return PredictionOut(**_prediction_fields(request, analyzer.manifest, prediction))


@router.post(
    "/explain",
    dependencies=[Depends(once_each)],
    openapi_extra=_IMAGE_BODY,
    response_model=ExplanationOut,
    responses={200: {"content": _PICTURES}, **_REFUSALS},
)
async def explain(request: Request, analyzer: Loaded, query: Annotated[ExplainQuery, Query()]) -> Response:
    """The class probabilities of one image, and where the evidence for a class lies: a heatmap and its overlay."""
    media_type = best_type(_accept(request), _answer_types(query.format))
    name = query.format if media_type == JSON else media_type.removeprefix("image/")
    style = overlay.Style(format=name, alpha=query.alpha, colormap=query.colormap)
    question = Question(query.class_name, query.against, query.method, style)
    async with analyzer.admission():
        explanation = await analyzer.explain(await read_image(request), question)
    if media_type == JSON:
        answer = _explanation_out(request, analyzer.manifest, explanation)
        return Response(answer.model_dump_json(by_alias=True), media_type=JSON, headers={"Vary": "Accept"})
    return _picture(analyzer.manifest, explanation)


@router.get("/livez")
async def livez() -> Health:
    """The process runs."""
    return Health(status="alive")


@router.get("/readyz", responses=_problems(503))
async def readyz(_analyzer: Loaded) -> Health:
    """The model is loaded and warmed up."""
    return Health(status="ready")


@router.get("/models")
def models(request: Request) -> ModelsOut:
    """The models in the store, and which version of which is served on what device."""
    return ModelsOut(models=[_summary(request, name) for name in _stored_or_served(request)])


@router.get("/models/{name}", responses=_problems(404, 503))
def model(request: Request, name: str, analyzer: Loaded) -> ModelOut:
    """What the manifest of the served model says."""
    if name not in _stored_or_served(request):
        raise UnknownModelError(f"no model {name!r}; there are: {', '.join(_stored_or_served(request))}")
    manifest = analyzer.manifest
    if name != manifest.name:
        raise UnknownModelError(f"model {name!r} is in the store but not served; {manifest.name!r} is")
    facts = manifest.model_dump(mode="json", exclude={"name", "version", "files", "schema_version"})
    return ModelOut(**_summary(request, name).model_dump(), **facts, methods=list(METHODS))


@router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """The web page."""
    return static(request, page.INDEX)


@router.get("/static/{name}", include_in_schema=False)
def static(request: Request, name: str) -> Response:
    """A file of the web page."""
    asset = page.asset(name)
    if asset is None:
        raise HTTPException(404)
    if asset.matches(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.body, media_type=asset.media_type, headers=asset.headers)


def _accept(request: Request) -> str:
    """All `Accept` headers as one, which is what several mean (RFC 9110, section 5.2)."""
    return ", ".join(request.headers.getlist("accept"))


def _answer_types(preferred: str) -> list[str]:
    names = [preferred, *(name for name in overlay.FORMATS if name != preferred)]
    return [JSON, *(f"image/{name}" for name in names if name in overlay.FORMATS)]


def _stored_or_served(request: Request) -> list[str]:
    settings: Settings = request.app.state.settings
    analyzer: Analyzer | None = request.app.state.analyzer
    stored = model_names(settings.model_store) if settings.model_store.is_dir() else []
    return sorted({*stored, *([analyzer.manifest.name] if analyzer else [])})


def _summary(request: Request, name: str) -> ModelSummary:
    settings: Settings = request.app.state.settings
    analyzer: Analyzer | None = request.app.state.analyzer
    versions = model_versions(settings.model_store, name)
    if analyzer is None or analyzer.manifest.name != name:
        return ModelSummary(name=name, version=None, versions=versions, device=None)
    served = analyzer.manifest.version
    return ModelSummary(name=name, version=served, versions=sorted({*versions, served}), device=analyzer.runtime.device)


def _prediction_fields(request: Request, manifest: Manifest, prediction: Prediction) -> dict[str, Any]:
    novelty, original = prediction.novelty, prediction.original
    return {
        "id": request.state.request_id,
        "model": ModelRef(name=manifest.name, version=manifest.version),
        "label": prediction.label,
        "probability": prediction.probabilities[prediction.label],
        "probabilities": prediction.probabilities,
        "novelty": novelty
        and NoveltyOut(
            score=novelty.score, threshold=novelty.threshold, out_of_distribution=novelty.out_of_distribution
        ),
        "image": ImageOut(width=original.width, height=original.height, format=original.format),
        "notice": manifest.intended_use,
    }


def _explanation_out(request: Request, manifest: Manifest, explanation: Explanation) -> ExplanationOut:
    values, drawn = explanation.heatmap.values, explanation.overlay
    part = ExplanationPart(
        method=explanation.method,
        class_name=explanation.class_name,
        against=explanation.against,
        layer=explanation.layer,
        empty=explanation.heatmap.empty,
        heatmap=HeatmapOut(
            height=values.shape[0],
            width=values.shape[1],
            values=values.tolist(),
            raw_max=explanation.heatmap.raw_max,
        ),
        overlay=OverlayOut(
            media_type=drawn.media_type,
            width=drawn.width,
            height=drawn.height,
            data=base64.b64encode(drawn.data).decode("ascii"),
        ),
    )
    return ExplanationOut(**_prediction_fields(request, manifest, explanation.prediction), explanation=part)


def _picture(manifest: Manifest, explanation: Explanation) -> Response:
    prediction = explanation.prediction
    headers = {
        "Vary": "Accept",
        "X-Lightbox-Model": f"{manifest.name}/{manifest.version}",
        "X-Lightbox-Label": _header_text(prediction.label),
        "X-Lightbox-Probability": f"{prediction.probabilities[prediction.label]:.6f}",
        "X-Lightbox-Probabilities": json.dumps(prediction.probabilities),
        "X-Lightbox-Class": _header_text(explanation.class_name),
        "X-Lightbox-Empty": str(explanation.heatmap.empty).lower(),
        "X-Lightbox-Notice": _header_text(manifest.intended_use),
    }
    if prediction.novelty is not None:
        headers["X-Lightbox-Out-Of-Distribution"] = str(prediction.novelty.out_of_distribution).lower()
    return Response(explanation.overlay.data, media_type=explanation.overlay.media_type, headers=headers)


def _header_text(text: str) -> str:
    """`text` as a header can carry it: printable ASCII stays, the rest is percent-encoded UTF-8."""
    return quote(text, safe="".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%"))
