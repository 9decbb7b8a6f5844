"""The routes of the Open Inference Protocol (V2) over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from app import __version__
from app.api.admitted import admitted, service_of
from app.api.auth import authenticate
from app.api.disconnect import while_connected
from app.api.negotiation import JSON
from app.api.protocols.binary_http import HEADER_LENGTH, read_request, write_response
from app.api.protocols.images import images_of
from app.api.protocols.inference import PLATFORM, TensorSpec, address_of, infer, inputs_of, outputs_of
from app.api.protocols.tensors import InferRequest
from app.api.protocols.unsupported import refuse_features
from app.api.readiness import check_model_ready, check_ready
from app.imaging.network_input import InputImage

SERVER = {"name": "lightbox", "version": __version__, "extensions": ["binary_tensor_data"]}

# Health is open, as `/livez` and `/readyz` are.
open_v2_router = APIRouter(include_in_schema=False)
v2_router = APIRouter(include_in_schema=False, dependencies=[Depends(authenticate)])


@open_v2_router.get("/v2/health/live")
async def v2_live() -> dict[str, Any]:
    """Report that the process is running."""
    return {"live": True}


@open_v2_router.get("/v2/health/ready")
async def v2_ready(request: Request) -> dict[str, Any]:
    """Report whether the service is ready."""
    await check_ready(service_of(request))
    return {"ready": True}


@open_v2_router.get("/v2/models/{name}/ready")
@open_v2_router.get("/v2/models/{name}/versions/{version}/ready")
async def v2_model_ready(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Report whether a request for the model will be answered."""
    await check_model_ready(service_of(request), address_of(name, version).choice)
    return {"name": name, "ready": True}


@v2_router.get("/v2")
async def v2_server() -> dict[str, Any]:
    """Describe the server."""
    return SERVER


@v2_router.get("/v2/models/{name}")
@v2_router.get("/v2/models/{name}/versions/{version}")
async def v2_model(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Describe a model: its versions, its inputs and its outputs."""
    address, models = address_of(name, version), service_of(request).models
    manifest, state = await models.manifest(address.choice), await models.state(address.name)
    return {
        "name": name,
        "versions": [str(number) for number in state.versions],
        "platform": PLATFORM,
        "inputs": _described(inputs_of(manifest)),
        "outputs": _described(outputs_of(manifest, explains=address.explains)),
    }


@v2_router.post("/v2/models/{name}/infer")
@v2_router.post("/v2/models/{name}/versions/{version}/infer")
async def v2_infer(request: Request, name: str, version: str = "") -> Response:
    """Predict, or as `M:explain` explain, the images of a request."""
    header_length, limit = request.headers.get(HEADER_LENGTH), request.app.state.settings.max_images

    def parse(body: bytes) -> tuple[InferRequest, list[InputImage]]:
        parsed = read_request(name, version, body, header_length)
        return parsed, images_of(parsed.inputs, limit)

    async with admitted(request, parse) as (service, (asked, images)):

        async def answer() -> Response:
            response = await infer(service, asked, images, request.query_params.multi_items())
            body, length = await service.workers.run(lambda: write_response(response, asked))
            if length is None:
                return Response(body, media_type=JSON)
            return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})

        return await while_connected(request, answer())


# Triton's extensions.
_UNSUPPORTED = {
    "/v2/repository/{rest:path}": "control of the model repository: the service follows its model store by itself",
    "/v2/models/{rest:path}/config": "Triton's model configuration; GET /v2/models/M describes the model M",
    "/v2/models/{rest:path}/generate": "generation of text",
    "/v2/models/{rest:path}/generate_stream": "streaming",
    "/v2/models/{rest:path}/stats": "Triton's statistics; GET /metrics has those of the service",
    "/v2/models/{rest:path}/trace/setting": "control of traces",
    "/v2/systemsharedmemory/{rest:path}": "shared memory; send tensors in the request",
    "/v2/cudasharedmemory/{rest:path}": "shared memory; send tensors in the request",
    "/v2/trace/setting": "control of traces",
    "/v2/logging": "control of the log",
}


refuse_features(v2_router, _UNSUPPORTED)


def _described(specs: list[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]
