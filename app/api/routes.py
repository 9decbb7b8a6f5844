"""The routes: each reads its request, asks the models and responds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Request, Response

from app.api.admitted import admitted, service_of
from app.api.auth import authenticate
from app.api.disconnect import while_connected
from app.api.negotiation import DICOM, JSON, NPY, answer_types, best_type
from app.api.parameters import parse_parameters, query_parameters
from app.api.problems import problem_responses
from app.api.questions import question_of, style_of
from app.api.schemas import (
    ExplainParameters,
    ExplanationOut,
    Health,
    ModelOut,
    ModelParameters,
    ModelsOut,
    PredictionOut,
    PredictParameters,
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
from app.api.upload import read_upload
from app.errors import ModelNotLoadedError
from app.imaging.encoders import PICTURE_FORMATS, npy
from app.imaging.headers import EncodedImage
from app.serving.analyzer import Drawing
from app.serving.interface import ModelChoice
from app.serving.service import Service
from app.telemetry.metrics import CONTENT_TYPE

EXPOSED_HEADERS = ["X-Request-ID", *HEADERS]

P = TypeVar("P", bound=PredictParameters)


def _image_request(name: str, schema: type[PredictParameters]) -> dict[str, Any]:
    """Describe a request with an image and parameters, for OpenAPI; `app.api.openapi` has the schemas."""
    body = {
        "multipart/form-data": {"schema": {"$ref": f"#/components/schemas/{name}Form"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        JSON: {"schema": {"$ref": f"#/components/schemas/{name}Json"}},
    }
    return {"parameters": query_parameters(schema), "requestBody": {"required": True, "content": body}}


_FILES: dict[str, Any] = {
    media_type: {"schema": {"type": "string", "format": "binary"}}
    for media_type in (*(f"image/{name}" for name in PICTURE_FORMATS), NPY, DICOM)
}
_REFUSALS = problem_responses(400, 404, 406, 413, 415, 422, 503, 504)


class _Asked(NamedTuple):
    """What a request asks of which model."""

    service: Service
    choice: ModelChoice
    image: EncodedImage


@asynccontextmanager
async def _asked(request: Request, schema: type[P]) -> AsyncIterator[tuple[_Asked, P]]:
    """Hold a slot during the block, and yield the chosen model, the image and the parameters."""
    async with admitted(request, lambda body: read_upload(body, request.headers)) as (service, upload):
        parameters = parse_parameters(schema, [*request.query_params.multi_items(), *upload.parameters])
        yield _Asked(service, ModelChoice(parameters.model, parameters.version), upload.image), parameters


# `router` requires an API key if keys are set, `open_router` never does.
open_router = APIRouter()
router = APIRouter(dependencies=[Depends(authenticate)], responses=problem_responses(401))


@router.post(
    "/predict",
    tags=["images"],
    openapi_extra=_image_request("Predict", PredictParameters),
    response_model=PredictionOut,
    responses=_REFUSALS,
)
async def predict(request: Request) -> Response:
    """Predict the class probabilities of one image."""
    best_type(_accept(request), [JSON])
    async with _asked(request, PredictParameters) as ((service, choice, image), parameters):

        async def answer() -> Response:
            answered = await service.models.predict(choice, [image], frame=parameters.frame)
            data = await service.workers.run(
                lambda: prediction_json(request.state.request_id, answered.manifest, answered.only, parameters.top)
            )
            return Response(data, media_type=JSON)

        return await while_connected(request, answer())


@router.post(
    "/explain",
    tags=["images"],
    openapi_extra=_image_request("Explain", ExplainParameters),
    response_model=ExplanationOut,
    responses={200: {"content": _FILES}, **_REFUSALS},
)
async def explain(request: Request) -> Response:
    """Predict the class probabilities of one image and explain them with a heatmap and its overlay."""
    async with _asked(request, ExplainParameters) as ((service, choice, image), parameters):
        media_type = _answer_type(request, parameters, image)
        question, drawing = question_of(parameters), _drawing(parameters, media_type)

        async def answer() -> Response:
            answered = await service.models.explain(choice, [image], question, drawing, frame=parameters.frame)
            manifest, explanation = answered.manifest, answered.only

            def body() -> bytes:
                if media_type == JSON:
                    return explanation_json(request.state.request_id, manifest, explanation, parameters.top)
                if media_type == NPY:
                    return npy(explanation.heatmap.values)
                if media_type == DICOM:
                    return secondary_capture_file(manifest, image, explanation, parameters.frame)
                assert explanation.overlay is not None
                return explanation.overlay.data

            data = await service.workers.run(body)
            headers = {"Vary": "Accept"} if media_type == JSON else file_headers(manifest, explanation)
            return Response(data, media_type=media_type, headers=headers)

        return await while_connected(request, answer())


@open_router.get("/livez", tags=["operations"])
async def livez() -> Health:
    """Report that the process is running."""
    return Health(status="alive")


@open_router.get("/readyz", tags=["operations"], responses=problem_responses(503))
async def readyz(request: Request) -> Health:
    """Report whether the default model is loaded and warmed up, and the service is not stopping."""
    if not await service_of(request).models.ready():
        raise ModelNotLoadedError("the model is not loaded yet")
    if service_of(request).stopping:
        raise ModelNotLoadedError("the service is stopping")
    return Health(status="ready")


@router.get("/metrics", tags=["operations"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return metrics in the Prometheus text format."""
    return Response(service_of(request).telemetry.metrics.exposition(), media_type=CONTENT_TYPE)


@router.get("/models", tags=["models"])
async def models(request: Request) -> ModelsOut:
    """List the models in the store: the served version and its device, the versions in memory, and the refused ones."""
    return ModelsOut(models=[summary_out(state) for state in await service_of(request).models.states()])


@router.get(
    "/models/{name}",
    tags=["models"],
    openapi_extra={"parameters": query_parameters(ModelParameters)},
    responses=problem_responses(404, 422, 503),
)
async def model(request: Request, name: str) -> ModelOut:
    """Return the manifest of a model, at the served or the given version."""
    parameters = parse_parameters(ModelParameters, request.query_params.multi_items())
    models = service_of(request).models
    return model_out(await models.state(name), await models.manifest(ModelChoice(name, parameters.version)))


def _accept(request: Request) -> str:
    """Combine all `Accept` headers into one value (RFC 9110, section 5.2)."""
    return ", ".join(request.headers.getlist("accept"))


def _answer_type(request: Request, parameters: ExplainParameters, image: EncodedImage) -> str:
    """Choose the media type of the response; among pictures, the parameter `format` is preferred."""
    names = sorted(PICTURE_FORMATS, key=lambda name: name != parameters.format)
    pictures = [f"image/{name}" for name in names] if parameters.overlay else []
    return best_type(_accept(request), answer_types(pictures, dicom=parameters.overlay and image.format == "DICOM"))


def _drawing(parameters: ExplainParameters, media_type: str) -> Drawing | None:
    """Return the overlay that a response of `media_type` needs, if any. The style is validated in any case."""
    name = media_type.removeprefix("image/") if media_type.startswith("image/") else parameters.format
    style = style_of(parameters, name)
    if not parameters.overlay or media_type == NPY:
        return None
    return Drawing(style, encoded=media_type != DICOM)
