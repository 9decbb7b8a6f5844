"""The HTTP interface: each route reads, asks the analyzer, and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from app.api import page
from app.api.auth import check_key
from app.api.disconnect import while_connected
from app.api.negotiation import DICOM, JSON, NPY, answer_types, best_type
from app.api.schemas import (
    ExplainQuery,
    ExplanationOut,
    Health,
    ModelOut,
    ModelQuery,
    ModelsOut,
    PredictionOut,
    PredictQuery,
    Problem,
)
from app.api.serializers import HEADERS, explanation_out, file_headers, model_out, prediction_out, summary_out
from app.api.upload import image_bytes
from app.errors import ModelNotLoadedError, QuestionError
from app.explain.question import Question
from app.imaging import overlay
from app.imaging.headers import sniff
from app.imaging.npy import npy
from app.serving.admission import Place
from app.serving.analyzer import Analyzer
from app.serving.service import Service
from app.settings import Settings
from app.telemetry.metrics import CONTENT_TYPE

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


_FILES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in (*(f"image/{name}" for name in overlay.FORMATS), NPY, DICOM)
}
_REFUSALS = _problems(400, 404, 406, 413, 415, 422, 503, 504)


def once_each(request: Request) -> None:
    """Refuses a query parameter that is given twice: one of the two would be ignored."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise QuestionError(f"given more than once: {', '.join(repeated)[:80]}")


def _check_key(request: Request) -> None:
    settings: Settings = request.app.state.settings
    check_key(request.headers, settings.api_keys)


def _service(request: Request) -> Service:
    """What the lifespan has made."""
    service: Service | None = request.app.state.service
    if service is None:
        raise ModelNotLoadedError("the service has not started")
    return service


@asynccontextmanager
async def _asked(request: Request, query: PredictQuery) -> AsyncIterator[tuple[Analyzer, bytes]]:
    """The model that the request asks and the image that it brings, for as long as it has a place."""
    service = _service(request)
    async with service.admission.place() as place, service.registry.lease(query.model, query.version) as analyzer:
        yield analyzer, await image_bytes(await _body(request, place), request.headers)


async def _body(request: Request, place: Place) -> bytes:
    pieces = []
    async for piece in request.stream():
        pieces.append(piece)
        place.progress()
    place.complete()
    return b"".join(pieces)


EXPOSED_HEADERS = ["X-Request-ID", *HEADERS]

# What anyone may ask, and what needs a key where keys are set.
open_router = APIRouter()
router = APIRouter(dependencies=[Depends(_check_key)], responses=_problems(401))


@router.post("/predict", dependencies=[Depends(once_each)], openapi_extra=_IMAGE_BODY, responses=_REFUSALS)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> PredictionOut:
    """The class probabilities of one image."""
    best_type(_accept(request), [JSON])
    async with _asked(request, query) as (analyzer, image):
        prediction = await while_connected(request, analyzer.predict(image, frame=query.frame))
        return prediction_out(request.state.request_id, analyzer.manifest, prediction, query.top)


@router.post(
    "/explain",
    dependencies=[Depends(once_each)],
    openapi_extra=_IMAGE_BODY,
    response_model=ExplanationOut,
    responses={200: {"content": _FILES}, **_REFUSALS},
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> Response:
    """The class probabilities of one image, and where the evidence for a class lies: a heatmap and its overlay."""
    question = _question(query, _answer_type(request, query, dicom=True))
    async with _asked(request, query) as (analyzer, image):
        media_type = _answer_type(request, query, dicom=sniff(image) == "DICOM")
        explanation = await while_connected(request, analyzer.explain(image, question, frame=query.frame))
        if media_type == JSON:
            answer = explanation_out(request.state.request_id, analyzer.manifest, explanation, query.top)
            return Response(answer.model_dump_json(by_alias=True), media_type=JSON, headers={"Vary": "Accept"})
        if media_type == NPY:
            data = npy(explanation.heatmap.values)
        elif media_type == DICOM:
            data = await analyzer.secondary_capture(image, explanation, frame=query.frame)
        else:
            data = explanation.overlay.data
        return Response(data, media_type=media_type, headers=file_headers(analyzer.manifest, explanation))


@open_router.get("/livez")
async def livez() -> Health:
    """The process runs."""
    return Health(status="alive")


@open_router.get("/readyz", responses=_problems(503))
async def readyz(request: Request) -> Health:
    """The default model is loaded and warmed up, and the service has not been told to stop."""
    if not _service(request).registry.ready:
        raise ModelNotLoadedError("the model is not loaded (yet)")
    if _service(request).stopping:
        raise ModelNotLoadedError("the service is stopping")
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """What Prometheus asks for."""
    return Response(_service(request).telemetry.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/models")
async def models(request: Request) -> ModelsOut:
    """The models in the store: which version is served on what device, what is in memory, what is refused and why."""
    return ModelsOut(models=[summary_out(state) for state in _service(request).registry.states()])


@router.get("/models/{name}", dependencies=[Depends(once_each)], responses=_problems(404, 422, 503))
async def model(request: Request, name: str, query: Annotated[ModelQuery, Query()]) -> ModelOut:
    """What the manifest of a model says: of the version that is served, or of the one asked for."""
    registry = _service(request).registry
    return model_out(registry.state(name), registry.manifest(name, query.version))


@open_router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """The web page."""
    return static(request, page.INDEX)


@open_router.get("/static/{name}", include_in_schema=False)
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


def _answer_type(request: Request, query: ExplainQuery, *, dicom: bool) -> str:
    """The media type of the answer; among pictures the query's format is preferred."""
    names = sorted(overlay.FORMATS, key=lambda name: name != query.format)
    return best_type(_accept(request), answer_types([f"image/{name}" for name in names], dicom=dicom))


def _question(query: ExplainQuery, media_type: str) -> Question:
    name = media_type.removeprefix("image/") if media_type.startswith("image/") else query.format
    style = overlay.Style(format=name, alpha=query.alpha, colormap=query.colormap)
    return Question(
        class_name=query.class_name,
        against=query.against,
        method=query.method,
        counterfactual=query.counterfactual,
        all_classes=query.all_classes,
        faithfulness=query.faithfulness,
        style=style,
    )
