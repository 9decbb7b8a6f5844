"""Error responses: the HTTP status of each error, and RFC 9457 problem details."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import errors
from app.api.schemas import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# Each error gets the status of its nearest ancestor listed here.
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


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of responses with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "RFC 9457 problem details", "content": content} for status in statuses}


def add_problem_handlers(app: FastAPI) -> None:
    """Register handlers that respond to errors with problem details. `LastResort` catches the exceptions left over."""
    app.add_exception_handler(errors.LightboxError, _on_lightbox_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_http_exception)


def _on_lightbox_error(request: Request, error: Exception) -> Response:
    ancestor = next(kind for kind in type(error).__mro__ if kind in STATUSES)
    status = STATUSES[ancestor]
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_unexpected_error(request, error)
    return _problem(request, status, str(error), kind=type(error).__name__, headers=_HEADERS.get(status))


def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
    return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, faults, kind="InvalidParameter")


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(request, HTTPStatus(error.status_code), str(error.detail), headers=dict(error.headers or {}))


def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Respond with 500; the stack trace goes to the log and not to the client."""
    log.error("request %s failed", request.state.request_id, exc_info=error)
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the service failed; see its log for details")


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
    return Response(problem.model_dump_json(), status_code=status, headers=headers, media_type=MEDIA_TYPE)
