"""The routes of KServe V1 and of TensorFlow Serving's REST API, which share their paths."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.admitted import admitted, service_of
from app.api.auth import authenticate
from app.api.disconnect import while_connected
from app.api.negotiation import JSON
from app.api.protocols.inference import EXPLAIN, infer
from app.api.protocols.instances import Instances, read_instances
from app.api.protocols.parameters import options, version_number
from app.api.protocols.rows import columns, explanation_rows, prediction_rows
from app.api.protocols.signatures import signature_metadata, version_status
from app.api.protocols.tensors import InferRequest
from app.api.protocols.unsupported import refuse_features
from app.api.questions import question_of, style_of
from app.api.readiness import check_model_ready
from app.api.schemas import ExplainParameters, PredictParameters
from app.serving.analyzer import Drawing
from app.serving.interface import ModelChoice
from app.serving.service import Service

# A model's readiness is open, as the service's is.
open_v1_router = APIRouter(include_in_schema=False)
v1_router = APIRouter(include_in_schema=False, dependencies=[Depends(authenticate)])


@v1_router.get("/v1/models")
async def v1_models(request: Request) -> dict[str, Any]:
    """List the names of the models in the store."""
    return {"models": [state.name for state in await service_of(request).models.states()]}


@v1_router.post("/v1/models/{name}:predict")
@v1_router.post("/v1/models/{name}/versions/{version}:predict")
async def v1_predict(request: Request, name: str, version: str = "") -> Response:
    """Predict the class probabilities of the images of a request."""

    async def rows(service: Service, asked: Instances) -> bytes:
        parameters = options(PredictParameters, name, version, asked.parameters, request.query_params.multi_items())
        choice = ModelChoice(parameters.model, parameters.version)
        answer = await service.models.predict(choice, asked.images, frame=parameters.frame)
        return await service.workers.run(lambda: prediction_rows(request.state.request_id, answer, parameters.top))

    return await _answered(request, name, version, rows)


@v1_router.post("/v1/models/{name}:explain")
@v1_router.post("/v1/models/{name}/versions/{version}:explain")
async def v1_explain(request: Request, name: str, version: str = "") -> Response:
    """Predict the class probabilities of the images of a request, and explain each with a heatmap and its overlay."""

    async def rows(service: Service, asked: Instances) -> bytes:
        parameters = options(ExplainParameters, name, version, asked.parameters, request.query_params.multi_items())
        choice = ModelChoice(parameters.model, parameters.version)
        question, drawing = question_of(parameters), Drawing(style_of(parameters))
        answer = await service.models.explain(
            choice, asked.images, question, drawing if parameters.overlay else None, frame=parameters.frame
        )
        return await service.workers.run(lambda: explanation_rows(request.state.request_id, answer, parameters.top))

    return await _answered(request, f"{name}{EXPLAIN}", version, rows)


async def _answered(
    request: Request, model: str, version: str, rows: Callable[[Service, Instances], Coroutine[Any, Any, bytes]]
) -> Response:
    """Answer with `rows`, or in columns if the request has them: these are tensors, by the names that V2 has for them.

    `model` is the name of the model in V2.
    """
    limit = request.app.state.settings.max_images
    async with admitted(request, lambda body: read_instances(body, limit)) as (service, asked):

        async def answer() -> Response:
            if not asked.columns:
                return Response(await rows(service, asked), media_type=JSON)
            tensors = InferRequest(model, version, [], parameters=asked.parameters)
            response = await infer(service, tensors, asked.images, request.query_params.multi_items())
            return Response(await service.workers.run(lambda: columns(response)), media_type=JSON)

        return await while_connected(request, answer())


@open_v1_router.get("/v1/models/{name}")
@open_v1_router.get("/v1/models/{name}/versions/{version}")
async def v1_model(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Report whether a request for the model will be answered, and the state of its versions."""
    choice = ModelChoice(name, version_number(name, version) if version else None)
    state = await check_model_ready(service_of(request), choice)
    return {"name": name, "ready": True, "model_version_status": version_status(state, choice.version)}


@v1_router.get("/v1/models/{name}/metadata")
@v1_router.get("/v1/models/{name}/versions/{version}/metadata")
async def v1_metadata(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Describe the signatures of a model."""
    choice = ModelChoice(name, version_number(name, version) if version else None)
    return signature_metadata(await service_of(request).models.manifest(choice))


refuse_features(
    v1_router,
    {
        "/v1/models/{name}:classify": "':classify'; ask ':predict'",
        "/v1/models/{name}:regress": "':regress': its models classify",
        "/v1/models/{name}/versions/{version}:classify": "':classify'; ask ':predict'",
        "/v1/models/{name}/versions/{version}:regress": "':regress': its models classify",
        "/v1/models/{name}/labels/{rest:path}": "labels of versions; name a version by its number",
    },
)
