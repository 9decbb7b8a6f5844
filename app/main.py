"""The application factory, which wires the parts together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.api.access_log import AccessLog
from app.api.middleware import BodyLimit, LastResort, RequestId, RequestTarget
from app.api.openapi import DescribedAPI
from app.api.page import page_router
from app.api.problems import add_problem_handlers, on_error
from app.api.protocols.grpc_port import grpc_from_settings
from app.api.protocols.v1 import open_v1_router, v1_router
from app.api.protocols.v2 import open_v2_router, v2_router
from app.api.routes import EXPOSED_HEADERS, open_router, router
from app.artifact.runtimes.base import Runtime
from app.errors import ArtifactError
from app.serving.self_test import load_runtime
from app.serving.service import Service, run_service
from app.settings import Settings, renamed_variables
from app.telemetry.metrics import Metrics
from app.telemetry.stages import Telemetry
from app.telemetry.tracing import tracer_from_environment

log = logging.getLogger(__name__)

_SUMMARY = "Class probabilities for an image, and a heatmap of the evidence for them."


def create_app(
    settings: Settings | None = None,
    runtime: Runtime | None = None,
    *,
    on_refusal: Callable[[ArtifactError], None] | None = None,
    metrics: Metrics | None = None,
    run: Callable[[Telemetry], AbstractAsyncContextManager[Service]] | None = None,
) -> FastAPI:
    """Create the ASGI application. It loads the default model on startup.

    Args:
        settings: the settings; by default they are read from the environment.
        runtime: a loaded model to serve instead of the one that `settings` names.
        on_refusal: called with the error if the model is refused. With it, startup does not wait for the model:
            `/readyz` returns 503 until the model is loaded in the background. Without it, startup waits for the model
            and raises the error.
        metrics: the metrics to count with; by default new ones.
        run: runs the service that the routes ask; by default, one that runs the models in this process.

    Raises:
        SetupError: if a setting needs a package that is not installed.
    """
    settings = settings or Settings()
    for old, new in renamed_variables():
        log.warning("%s has been renamed; set %s instead", old, new)
    telemetry = Telemetry(metrics or Metrics(), tracer_from_environment())
    running = run or (lambda telemetry: run_service(settings, telemetry, runtime, load_runtime, on_refusal))
    serving_grpc = grpc_from_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(telemetry) as service:
            app.state.service = service
            async with serving_grpc(service):
                yield
        app.state.service = None

    app = DescribedAPI(
        title="Lightbox",
        version=__version__,
        summary=_SUMMARY,
        lifespan=lifespan,
        # Generated clients name their functions after the operation ids.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.state.service = None
    for routes in (open_router, router, open_v1_router, v1_router, open_v2_router, v2_router, page_router):
        app.include_router(routes)
    app.add_middleware(BodyLimit, limit=settings.max_upload_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(LastResort, respond=lambda scope, error: on_error(Request(scope), error))
    app.add_middleware(RequestTarget, root_path=settings.root_path)
    app.add_middleware(AccessLog, telemetry=telemetry)
    app.add_middleware(RequestId)
    add_problem_handlers(app)
    return app
