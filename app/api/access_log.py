"""Middleware that logs, counts and traces every request. Plain ASGI."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from app.api.dialects import Dialect, dialect_of
from app.api.middleware import App, Message, Receive, Scope, Send
from app.telemetry.logs import request_id
from app.telemetry.stages import Telemetry

log = logging.getLogger("lightbox.access")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Orchestrators request these every few seconds, so they are logged at the level DEBUG only.
_QUIET = frozenset(
    {
        *("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"),
        *("/v1/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready"),
        *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")),
    }
)


class AccessLog:
    """Logs, counts and traces every request. Add it inside `RequestId` and outside all other middleware.

    The log contains no text from a client except the request id, which `RequestId` has validated.
    """

    def __init__(self, app: App, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = request_id.set(scope["state"]["request_id"])
        status, start = 0, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self._span(scope) as span:
                try:
                    await self._app(scope, receive, watched)
                finally:
                    self._close(span, scope, status)
        finally:
            seconds = time.perf_counter() - start
            record(self._telemetry, dialect_of(scope), _method(scope), _route(scope), status, seconds)
            request_id.reset(token)

    def _span(self, scope: Scope) -> AbstractContextManager[Any]:
        """Start a server span, as a child of the caller's if it sends a `traceparent` (W3C Trace Context)."""
        tracer = self._telemetry.tracer
        if tracer is None:
            return nullcontext()
        from opentelemetry.propagate import extract  # noqa: PLC0415  # optional
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  # optional

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return tracer.start_as_current_span(_method(scope), context=extract(headers), kind=SpanKind.SERVER)

    def _close(self, span: Any, scope: Scope, status: int) -> None:
        """Name the span by OpenTelemetry's semantic conventions for HTTP."""
        if span is None:
            return
        span.update_name(f"{_method(scope)} {_route(scope)}")
        span.set_attributes(
            {
                "http.request.method": _method(scope),
                "http.route": _route(scope),
                "http.response.status_code": status,
                "lightbox.request_id": scope["state"]["request_id"],
            }
        )


def record(telemetry: Telemetry, protocol: Dialect, method: str, route: str, status: int, seconds: float) -> None:
    """Count and log one request; `status` is 0 if the client disconnected before the response started."""
    telemetry.metrics.answered(protocol, method, route, status, seconds)
    level = logging.DEBUG if route in _QUIET else logging.INFO
    facts = {
        "protocol": protocol,
        "method": method,
        "route": route,
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
    }
    log.log(level, "%s %s %s in %.1f ms", method, route, status or "no response", 1000 * seconds, extra=facts)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    """Return the template of the matched route, so that no text from a client becomes a label."""
    route = scope.get("route")
    return str(getattr(route, "path", None) or "unmatched")
