"""The application: what it is made of, what it loads, and which error gets which status."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from app import __version__, errors
from app.api.access_log import Access
from app.api.middleware import BodyLimit, LastResort, RequestId
from app.api.routes import EXPOSED_HEADERS, open_router, router
from app.api.schemas import Problem
from app.artifact.runtimes.base import Runtime
from app.errors import ArtifactError
from app.serving.self_test import examine
from app.serving.service import run_service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.stages import Telemetry
from app.telemetry.tracing import tracer_from_environment

log = logging.getLogger(__name__)

# An error resolves to the status of its nearest ancestor here.
STATUSES: dict[type[errors.LightboxError], HTTPStatus] = {
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.UploadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ImageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedImageError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.CorruptImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.QuestionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    errors.UnknownModelError: HTTPStatus.NOT_FOUND,
    errors.CredentialsError: HTTPStatus.UNAUTHORIZED,
    errors.ModelNotLoadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.LightboxError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_HEADERS = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
}


def create_app(
    settings: Settings | None = None,
    runtime: Runtime | None = None,
    *,
    on_refusal: Callable[[ArtifactError], None] | None = None,
) -> FastAPI:
    """The service as an ASGI application; the model is loaded once, when the application starts.

    Args:
        settings: default: read from the environment.
        runtime: a loaded model to serve instead of the one that `settings` name.
        on_refusal: given, the application starts at once and loads its model behind its back, `/readyz` answering 503
            meanwhile, and this is called if the model is refused. Otherwise the start waits, and raises that.
    """
    settings = settings or Settings()
    telemetry = Telemetry(Metrics(), tracer_from_environment())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with run_service(settings, telemetry, runtime, load_runtime, on_refusal) as service:
            app.state.service = service
            yield
        app.state.service = None

    app = FastAPI(title="Lightbox", version=__version__, summary=__doc__, lifespan=lifespan)
    app.state.settings = settings
    app.state.service = None
    app.include_router(open_router)
    app.include_router(router)
    app.add_middleware(BodyLimit, limit=settings.max_upload_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(LastResort, respond=lambda scope, error: _on_anything_else(Request(scope), error))
    app.add_middleware(Access, telemetry=telemetry)
    app.add_middleware(RequestId)
    app.add_exception_handler(errors.LightboxError, _on_lightbox_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


def load_runtime(entry: Path) -> Runtime:
    """Verify and load a version folder, and see that it still answers as it did when it was exported.

    Raises:
        ArtifactError: it is refused; the message says why.
    """
    # Imported here so that an application with a runtime of its own needs no TensorFlow.
    from app.artifact.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415  # as the comment says

    runtime = TensorFlowRuntime(entry)
    examine(runtime, entry)
    return runtime


def _on_lightbox_error(request: Request, error: Exception) -> Response:
    ancestor = next(kind for kind in type(error).__mro__ if kind in STATUSES)
    status = STATUSES[ancestor]
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _on_anything_else(request, error)
    return _problem(request, status, str(error), kind=type(error).__name__, headers=_HEADERS.get(status))


def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, faults, kind="InvalidParameter")


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(request, HTTPStatus(error.status_code), str(error.detail), headers=dict(error.headers or {}))


def _on_anything_else(request: Request, error: Exception) -> Response:
    log.error("request %s failed", request.state.request_id, exc_info=error)
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the service failed; its log says more")


def _problem(
    request: Request, status: HTTPStatus, detail: str, *, kind: str = "", headers: dict[str, str] | None = None
) -> Response:
    problem = Problem(
        type=f"urn:lightbox:problem:{kind.removesuffix('Error')}" if kind else "about:blank",
        title=status.phrase,
        status=status,
        detail=detail,
        instance=f"urn:lightbox:request:{request.state.request_id}",
        error=detail,
    )
    return Response(
        problem.model_dump_json(), status_code=status, headers=headers, media_type="application/problem+json"
    )
