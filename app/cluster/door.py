"""The deployment that speaks HTTP: the same application as in one process, but its models run elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ray import serve
from ray.serve.handle import DeploymentHandle

from app.api.middleware import App, Message, Receive, Scope, Send
from app.cluster.metrics import RayMetrics
from app.cluster.remote import RemoteModels
from app.cluster.replicas import Replicas
from app.main import create_app
from app.serving.admission import Admission
from app.serving.service import Service
from app.serving.workers import Workers
from app.settings import Settings
from app.telemetry.logs import configure
from app.telemetry.stages import Telemetry

# A door reads uploads and serializes answers; the replicas do the rest.
_THREADS = 2
# The deployment of a model is named by this and the model's name.
MODEL = "model "


class Door:
    """The HTTP interface in front of the replicas, whose handles by model are `handles`."""

    def __init__(self, settings: Settings, **handles: DeploymentHandle) -> None:
        configure(settings.log_level, settings.log_format)
        self._settings = settings
        # Ray resolves handles only among the arguments themselves: a model's name is no argument's name.
        self._handles = {handle.deployment_name.removeprefix(MODEL): handle for handle in handles.values()}
        self._metrics = RayMetrics()
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> App:
        return OneRequestId(create_app(self._settings, metrics=self._metrics, run=self._run))

    def stop(self) -> None:
        """Report from now on that the service is stopping."""
        if self._service is not None:
            self._service.stopping = True

    def close(self) -> None:
        """Admit no further request; open ones go on."""
        if self._service is not None:
            self._service.admission.close()

    def in_flight(self) -> int:
        """Return the number of open requests."""
        return 0 if self._service is None else self._service.admission.in_flight

    @asynccontextmanager
    async def _run(self, telemetry: Telemetry) -> AsyncIterator[Service]:
        with Workers(_THREADS) as workers:
            replicas = Replicas(serve.get_replica_context().app_name, _names(self._handles), self._metrics)
            await replicas.look()
            watching = asyncio.create_task(replicas.watch())
            models = RemoteModels(self._handles, self._settings.model, replicas, self._metrics)
            settings = self._settings
            admission = Admission(settings.max_concurrent_requests, settings.request_timeout_s, self._metrics)
            try:
                self._service = Service(admission, models, workers, telemetry)
                yield self._service
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)


def _names(handles: Mapping[str, DeploymentHandle]) -> dict[str, str]:
    return {model: handle.deployment_name for model, handle in handles.items()}


class OneRequestId:
    """Leaves the header `X-Request-ID` to Ray's proxy, which adds the same one to every response."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id")

        async def once(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair != (b"x-request-id", given)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, once)
