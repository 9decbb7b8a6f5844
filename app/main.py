"""The application: what it is made of, what it loads, and which error gets which status."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import __version__, errors
from app.analyzer import Analyzer
from app.artifact import find_artifact
from app.middleware import BodyLimit, LastResort, RequestId
from app.routes import router
from app.runtimes.base import Runtime
from app.schemas import Problem
from app.settings import Settings

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
    errors.ModelNotLoadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.LightboxError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def create_app(settings: Settings | None = None, runtime: Runtime | None = None) -> FastAPI:
    """The service as an ASGI application; the model is loaded once, when the application starts.

    Args:
        settings: default: read from the environment.
        runtime: a loaded model to serve instead of the one that `settings` name.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = await anyio.to_thread.run_sync(load_runtime, settings) if runtime is None else runtime
        app.state.analyzer = Analyzer(
            loaded,
            max_pixels=settings.max_image_pixels,
            max_overlay_side=settings.max_overlay_side,
            max_queue=settings.max_queue,
            timeout_s=settings.request_timeout_s,
        )
        log.info("serving %s version %d on %s", loaded.manifest.name, loaded.manifest.version, loaded.device)
        yield
        app.state.analyzer.close()
        app.state.analyzer = None

    app = FastAPI(title="Lightbox", version=__version__, summary=__doc__, lifespan=lifespan)
    app.state.settings = settings
    app.state.analyzer = None
    app.include_router(router)
    app.add_middleware(BodyLimit, limit=settings.max_upload_bytes)
    app.add_middleware(LastResort, respond=lambda scope, error: _on_anything_else(Request(scope), error))
    app.add_middleware(RequestId)
    app.add_exception_handler(errors.LightboxError, _on_lightbox_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


def load_runtime(settings: Settings) -> Runtime:
    """Verify and load the model that `settings` name.

    Raises:
        ArtifactError: there is no such model, or it is refused; the message says why.
    """
    # Imported here so that an application with a runtime of its own needs no TensorFlow.
    from app.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415  # as the comment says

    return TensorFlowRuntime(find_artifact(settings.model_store, settings.model, settings.model_version))


def _on_lightbox_error(request: Request, error: Exception) -> Response:
    ancestor = next(kind for kind in type(error).__mro__ if kind in STATUSES)
    status = STATUSES[ancestor]
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return _on_anything_else(request, error)
    headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return _problem(request, status, str(error), kind=type(error).__name__, headers=headers)


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
