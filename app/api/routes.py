"""The routes: each reads its request, calls the analyzer and responds."""

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


def refuse_repeated_parameters(request: Request) -> None:
    """Refuse a query parameter that is given twice, because one of the values would be ignored.

    Raises:
        QuestionError: if there is one.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise QuestionError(f"query parameters given more than once: {', '.join(repeated)[:80]}")


def _service(request: Request) -> Service:
    """Return the service that the lifespan has started.

    Raises:
        ModelNotLoadedError: if it has not started yet.
    """
    service: Service | None = request.app.state.service
    if service is None:
        raise ModelNotLoadedError("the service has not started yet")
    return service


@asynccontextmanager
async def _admitted(request: Request, query: PredictQuery) -> AsyncIterator[tuple[Service, Analyzer, EncodedImage]]:
    """Hold a slot during the block, and yield the service, the requested model and the image."""
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


# `router` requires an API key if keys are set, `open_router` never does.
open_router = APIRouter()
router = APIRouter(dependencies=[Depends(authenticate)], responses=problem_responses(401))


@router.post(
    "/predict",
    tags=["images"],
    dependencies=[Depends(refuse_repeated_parameters)],
    openapi_extra=_IMAGE_BODY,
    response_model=PredictionOut,
    responses=_REFUSALS,
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Predict the class probabilities of one image."""
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
    dependencies=[Depends(refuse_repeated_parameters)],
    openapi_extra=_IMAGE_BODY,
    response_model=ExplanationOut,
    responses={200: {"content": _FILES}, **_REFUSALS},
)
async def explain(request: Request, query: Annotated[ExplainQuery, Query()]) -> Response:
    """Predict the class probabilities of one image and explain them with a heatmap and its overlay."""
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
    """Report that the process is running."""
    return Health(status="alive")


@open_router.get("/readyz", tags=["operations"], responses=problem_responses(503))
async def readyz(request: Request) -> Health:
    """Report whether the default model is loaded and warmed up, and the service is not stopping."""
    if not _service(request).registry.ready:
        raise ModelNotLoadedError("the model is not loaded yet")
    if _service(request).stopping:
        raise ModelNotLoadedError("the service is stopping")
    return Health(status="ready")


@router.get("/metrics", tags=["operations"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return metrics in the Prometheus text format."""
    return Response(_service(request).telemetry.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/models", tags=["models"])
async def models(request: Request) -> ModelsOut:
    """List the models in the store: the served version and its device, the versions in memory, and the refused ones."""
    return ModelsOut(models=[summary_out(state) for state in await _service(request).registry.states()])


@router.get(
    "/models/{name}",
    tags=["models"],
    dependencies=[Depends(refuse_repeated_parameters)],
    responses=problem_responses(404, 422, 503),
)
async def model(request: Request, name: str, query: Annotated[ModelQuery, Query()]) -> ModelOut:
    """Return the manifest of a model, at the served or the given version."""
    registry = _service(request).registry
    return model_out(await registry.state(name), await registry.manifest(name, query.version))


def _accept(request: Request) -> str:
    """Combine all `Accept` headers into one value (RFC 9110, section 5.2)."""
    return ", ".join(request.headers.getlist("accept"))


def _answer_type(request: Request, query: ExplainQuery, image: EncodedImage) -> str:
    """Choose the media type of the response; among pictures, the query's `format` is preferred."""
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
    """Return the overlay that a response of `media_type` needs, if any. The style is validated in any case."""
    name = media_type.removeprefix("image/") if media_type.startswith("image/") else query.format
    style = Style(format=name, alpha=query.alpha, colormap=query.colormap)
    if not query.overlay or media_type == NPY:
        return None
    return Drawing(style, encoded=media_type != DICOM)
