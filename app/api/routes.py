"""The HTTP interface: each route reads its request, asks the analyzer, and answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth import authenticate
from app.api.disconnect import while_connected
from app.api.negotiation import DICOM, JSON, NPY, answer_types, best_type
from app.api.problems import problem_responses
from app.api.schemas import (
    ExplainQuery,
    ExplanationOut,
    Health,
    ModelOut,
    ModelQuery,
    ModelsOut,
    PredictionOut,
    PredictQuery,
)
from app.api.serializers import (
    HEADERS,
    explanation_json,
    file_headers,
    model_out,
    prediction_json,
    secondary_capture_file,
    summary_out,
)
from app.api.upload import read_image
from app.errors import ModelNotLoadedError, QuestionError
from app.explain.question import Question
from app.imaging.encoders import PICTURE_FORMATS, npy
from app.imaging.headers import EncodedImage
from app.imaging.overlay import Style
from app.serving.admission import Slot
from app.serving.analyzer import Analyzer, Drawing
from app.serving.service import Service
from app.telemetry.metrics import CONTENT_TYPE

EXPOSED_HEADERS = ["X-Request-ID", *HEADERS]

_IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/ImageForm"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": {"$ref": "#/components/schemas/ImageJson"}},
        },
    }
}
_FILES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in (*(f"image/{name}" for name in PICTURE_FORMATS), NPY, DICOM)
}
_REFUSALS = problem_responses(400, 404, 406, 413, 415, 422, 503, 504)


def once_each(request: Request) -> None:
    """Refuse a query parameter that is given twice: one of the two would be ignored."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise QuestionError(f"given more than once: {', '.join(repeated)[:80]}")


def _service(request: Request) -> Service:
    """What the lifespan has made."""
    service: Service | None = request.app.state.service
    if service is None:
        raise ModelNotLoadedError("the service has not started")
    return service


@asynccontextmanager
async def _admitted(request: Request, query: PredictQuery) -> AsyncIterator[tuple[Service, Analyzer, EncodedImage]]:
    """The model that the request asks and the image that it brings, for as long as it holds a slot."""
    service = _service(request)
    async with service.admission.slot() as slot, service.registry.lease(query.model, query.version) as analyzer:
        body = await _body(request, slot)
        yield service, analyzer, await read_image(body, request.headers, service.workers)


async def _body(request: Request, slot: Slot) -> bytes:
    pieces = []
    async for piece in request.stream():
        pieces.append(piece)
        slot.progress()
    slot.complete()
    return b"".join(pieces)


# What anyone may ask, and what needs a key where keys are set.
open_router = APIRouter()
router = APIRouter(dependencies=[Depends(authenticate)], responses=problem_responses(401))


@router.post(
    "/predict",
    tags=["images"],
    dependencies=[Depends(once_each)],
    openapi_extra=_IMAGE_BODY,
    response_model=PredictionOut,
    responses=_REFUSALS,
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """The class probabilities of one image."""
    best_type(_accept(request), [JSON])
    async with _admitted(request, query) as (service, analyzer, image):

        async def answer() -> Response:
            prediction = await analyzer.predict(image, frame=query.frame)
            data = await service.workers.run(
                lambda: prediction_json(request.state.request_id, analyzer.manifest, prediction, query.top)
            )
            return Response(data, media_type=JSON)

        return await while_connected(request, answer())


@router.post(
    "/explain",
    tags=["images"],
    dependencies=[Depends(once_each)],
    openapi_extra=_IMAGE_BODY,
    response_model=ExplanationOut,
    responses={200: {"content": _FILES}, **_REFUSALS},
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> Response:
    """The class probabilities of one image, and where the evidence for a class lies: a heatmap and its overlay."""
    async with _admitted(request, query) as (service, analyzer, image):
        media_type = _answer_type(request, query, image)
        question, drawing = _question(query), _drawing(query, media_type)

        async def answer() -> Response:
            explanation = await analyzer.explain(image, question, drawing, frame=query.frame)

            def body() -> bytes:
                if media_type == JSON:
                    return explanation_json(request.state.request_id, analyzer.manifest, explanation, query.top)
                if media_type == NPY:
                    return npy(explanation.heatmap.values)
                if media_type == DICOM:
                    return secondary_capture_file(analyzer.manifest, image, explanation, query.frame)
                assert explanation.overlay is not None
                return explanation.overlay.data

            data = await service.workers.run(body)
            headers = {"Vary": "Accept"} if media_type == JSON else file_headers(analyzer.manifest, explanation)
            return Response(data, media_type=media_type, headers=headers)

        return await while_connected(request, answer())


@open_router.get("/livez", tags=["operations"])
async def livez() -> Health:
    """The process runs."""
    return Health(status="alive")


@open_router.get("/readyz", tags=["operations"], responses=problem_responses(503))
async def readyz(request: Request) -> Health:
    """The default model is loaded and warmed up, and the service has not been told to stop."""
    if not _service(request).registry.ready:
        raise ModelNotLoadedError("the model is not loaded (yet)")
    if _service(request).stopping:
        raise ModelNotLoadedError("the service is stopping")
    return Health(status="ready")


@router.get("/metrics", tags=["operations"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    return Response(_service(request).telemetry.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/models", tags=["models"])
async def models(request: Request) -> ModelsOut:
    """The models in the store: which version is served on what device, what is in memory, what is refused and why."""
    return ModelsOut(models=[summary_out(state) for state in await _service(request).registry.states()])


@router.get(
    "/models/{name}", tags=["models"], dependencies=[Depends(once_each)], responses=problem_responses(404, 422, 503)
)
async def model(request: Request, name: str, query: Annotated[ModelQuery, Query()]) -> ModelOut:
    """What the manifest of a model says: of the version that is served, or of the one asked for."""
    registry = _service(request).registry
    return model_out(await registry.state(name), await registry.manifest(name, query.version))


def _accept(request: Request) -> str:
    """All `Accept` headers as one, which is what several mean (RFC 9110, section 5.2)."""
    return ", ".join(request.headers.getlist("accept"))


def _answer_type(request: Request, query: ExplainQuery, image: EncodedImage) -> str:
    """The media type of the answer; among pictures the query's format is preferred."""
    names = sorted(PICTURE_FORMATS, key=lambda name: name != query.format)
    pictures = [f"image/{name}" for name in names] if query.overlay else []
    return best_type(_accept(request), answer_types(pictures, dicom=query.overlay and image.format == "DICOM"))


def _question(query: ExplainQuery) -> Question:
    return Question(
        class_name=query.class_name,
        against=query.against,
        method=query.method,
        counterfactual=query.counterfactual,
        all_classes=query.all_classes,
        faithfulness=query.faithfulness,
    )


def _drawing(query: ExplainQuery, media_type: str) -> Drawing | None:
    """The overlay that an answer of `media_type` needs, if any; the style is checked either way."""
    name = media_type.removeprefix("image/") if media_type.startswith("image/") else query.format
    style = Style(format=name, alpha=query.alpha, colormap=query.colormap)
    if not query.overlay or media_type == NPY:
        return None
    return Drawing(style, encoded=media_type != DICOM)
