"""The deployment that runs models: the registry, the analyzers, the batchers and the runtimes of one replica."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Any

from app.cluster.calls import Call
from app.cluster.metrics import RayMetrics
from app.cluster.settings import ClusterSettings
from app.errors import ArtifactError, LightboxError
from app.serving.environment import prepare_tensorflow
from app.serving.self_test import load_runtime
from app.serving.service import run_service
from app.settings import Settings
from app.telemetry.logs import configure, request_id
from app.telemetry.stages import Telemetry
from app.telemetry.tracing import tracer_from_environment

log = logging.getLogger(__name__)

# By this, the message of a deployment that can't start tells why (`app.cluster.replicas`).
REFUSED = "the model is refused: "


class RefusedError(RuntimeError):
    """The default model of a replica is refused; the message says why, after `REFUSED`."""


class Model:
    """Answers the calls of doors with the models of a store. Ray sends it requests once its default model is loaded.

    Raises:
        RefusedError: if its default model is refused. Ray then tries again, and tells the reason in its status.
    """

    async def __init__(self, settings: Settings, cluster: ClusterSettings) -> None:  # type: ignore[misc]  # Ray awaits it
        configure(settings.log_level, settings.log_format)
        cores = math.ceil(cluster.replica_cpus)
        prepare_tensorflow(settings, cores)
        self._telemetry = Telemetry(RayMetrics(), tracer_from_environment())
        self._running = AsyncExitStack()
        try:
            service = await self._running.enter_async_context(
                run_service(settings, self._telemetry, None, load_runtime, None, cores)
            )
        except ArtifactError as error:
            reason = str(error).replace(f"{settings.model_store}/", "")
            log.error("%s%s", REFUSED, reason)  # noqa: TRY400  # the reason says all
            raise RefusedError(f"{REFUSED}{reason}") from error
        self._models = service.models

    async def ask(self, call: Call) -> Any:
        """Return the answer to `call`, or the `LightboxError` that it gets, which crosses processes as a value."""
        token = request_id.set(call.request_id)
        try:
            with self._span(call):
                return await getattr(self._models, call.method)(*call.arguments, **call.keywords)
        except LightboxError as error:
            return error
        except asyncio.CancelledError:
            log.info("the call was cancelled: its client has disconnected, or its deadline is over")
            raise
        finally:
            request_id.reset(token)

    async def __del__(self) -> None:
        await self._running.aclose()

    def _span(self, call: Call) -> AbstractContextManager[Any]:
        """Start a span for the work of the replica, as a child of the door's."""
        if self._telemetry.tracer is None:
            return nullcontext()
        from opentelemetry.propagate import extract  # noqa: PLC0415  # optional

        return self._telemetry.tracer.start_as_current_span(f"replica {call.method}", context=extract(call.trace))
