"""The Open Inference Protocol (V2) over gRPC: the service, and the server that runs beside the one of HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from app import __version__
from app.api.protocols.grpc import open_inference_pb2 as messages
from app.api.protocols.grpc.calls import Calls
from app.api.protocols.grpc.messages import read_message, tensor_metadata, write_message
from app.api.protocols.grpc.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from app.api.protocols.images import images_of
from app.api.protocols.inference import PLATFORM, address_of, infer, inputs_of, outputs_of
from app.api.readiness import check_model_ready, check_ready
from app.errors import ModelNotLoadedError, SetupError
from app.serving.service import Service
from app.settings import Settings

# Calls beyond the limit of requests, so that health is answered while that is reached. gRPC refuses further ones before
# it reads their messages.
_SPARE_CALLS = 64


class InferenceService(GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated code has no types
    """The methods of the service. Each raises what the routes of HTTP raise, which `Calls` turns into a status."""

    def __init__(self, service: Service, max_images: int) -> None:
        self._service = service
        self._max_images = max_images

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802  # the protocol's name
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        try:
            await check_ready(self._service)
        except ModelNotLoadedError:
            return messages.ServerReadyResponse(ready=False)
        return messages.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, _context: Any) -> Any:  # noqa: N802
        try:
            await check_model_ready(self._service, address_of(request.name, request.version).choice)
        except ModelNotLoadedError:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ServerMetadataResponse(name="lightbox", version=__version__)

    async def ModelMetadata(self, request: Any, _context: Any) -> Any:  # noqa: N802
        address, models = address_of(request.name, request.version), self._service.models
        manifest, state = await models.manifest(address.choice), await models.state(address.name)
        return messages.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in state.versions],
            platform=PLATFORM,
            inputs=tensor_metadata(inputs_of(manifest)),
            outputs=tensor_metadata(outputs_of(manifest, explains=address.explains)),
        )

    async def ModelInfer(self, request: Any, _context: Any) -> Any:  # noqa: N802
        workers = self._service.workers
        async with self._service.admission.slot() as slot:
            slot.complete()  # gRPC has received the whole message
            asked = await workers.run(lambda: read_message(request))
            images = await workers.run(lambda: images_of(asked.inputs, self._max_images))
            response = await infer(self._service, asked, images)
            return await workers.run(lambda: write_message(response, asked))


@asynccontextmanager
async def grpc_serving(service: Service, settings: Settings) -> AsyncIterator[None]:
    """Serve on `settings.grpc_port` during the block; calls that run at its end have the time of a graceful shutdown.

    Raises:
        SetupError: if the port can't be used.
    """
    server = grpc.aio.server(
        interceptors=[Calls(settings.api_keys, service.telemetry)],
        options=[
            ("grpc.max_receive_message_length", settings.max_upload_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise two processes would share the port without an error
        ],
        maximum_concurrent_rpcs=settings.max_concurrent_requests + _SPARE_CALLS,
    )
    add_GRPCInferenceServiceServicer_to_server(InferenceService(service, settings.max_images), server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise SetupError(f"LIGHTBOX_GRPC_PORT: port {settings.grpc_port} of {settings.host} can't be used") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(settings.shutdown_grace_s)
