"""Error responses: the HTTP status of each error, and its body in the protocol of the request.

Lightbox's own routes answer with RFC 9457 problem details, those of other protocols with `{"error": …}`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import errors
from app.api.dialects import dialect_of
from app.api.schemas import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Clients of other protocols show the text only if the type is exactly this one.
_PLAIN_MEDIA_TYPE = "application/json"

# Each error gets the status of its nearest ancestor listed here.
STATUSES: dict[type[errors.LightboxError], HTTPStatus] = {
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.UploadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ImageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedImageError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnsupportedEncodingError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.TensorError: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedFeatureError: HTTPStatus.BAD_REQUEST,
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
    """Register handlers that respond to errors. `LastResort` catches the exceptions left over."""
    app.add_exception_handler(errors.LightboxError, on_error)
    app.add_exception_handler(RequestValidationError, on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error response says: the HTTP status, the reason, the name of the error's class, and headers."""

    status: HTTPStatus
    detail: str
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def fault_of(error: Exception) -> Fault:
    """Return what the response to `error` says. Unexpected errors get 500 and give nothing away."""
    if isinstance(error, RequestValidationError):
        faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        return Fault(HTTPStatus.UNPROCESSABLE_ENTITY, faults, "InvalidParameter")
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
    if status is None or status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return Fault(HTTPStatus.INTERNAL_SERVER_ERROR, "the service failed; see its log for details")
    headers = _HEADERS.get(status, {})
    if isinstance(error, errors.UnsupportedEncodingError):
        headers = {"Accept-Encoding": ", ".join(error.supported)}  # RFC 9110, section 15.5.16
    return Fault(status, str(error), type(error).__name__, headers)


def log_unexpected(request_id: str, error: Exception) -> None:
    """Write the stack trace of an unexpected error to the log, as the response has none."""
    log.error("request %s failed", request_id, exc_info=error)


def on_error(request: Request, error: Exception) -> Response:
    """Respond to `error`. The stack trace of an unexpected one goes to the log and not to the client."""
    fault = fault_of(error)
    if fault.status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log_unexpected(request.state.request_id, error)
    return _response(request, fault)


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _response(
        request, Fault(HTTPStatus(error.status_code), str(error.detail), headers=dict(error.headers or {}))
    )


def _response(request: Request, fault: Fault) -> Response:
    if dialect_of(request.scope) != "lightbox":
        content, media_type = json.dumps({"error": fault.detail}), _PLAIN_MEDIA_TYPE
    else:
        content, media_type = _problem(request, fault).model_dump_json(), MEDIA_TYPE
    return Response(content, status_code=fault.status, headers=fault.headers, media_type=media_type)


def _problem(request: Request, fault: Fault) -> Problem:
    return Problem(
        type=f"urn:lightbox:problem:{fault.kind.removesuffix('Error')}" if fault.kind else "about:blank",
        title=fault.status.phrase,
        status=fault.status,
        detail=fault.detail,
        instance=f"urn:lightbox:request:{request.state.request_id}",
        error=fault.detail,
    )
