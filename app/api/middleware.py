"""Middleware for request targets, request ids, unexpected errors and the size of request bodies. Plain ASGI."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse

from app.errors import UploadTooLargeError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")


class RequestTarget:
    """Normalises equivalent forms of a request, so that every route handles all of them.

    - `HEAD` is `GET` without a body (RFC 9110, section 9.3.2).
    - A target in absolute form is its path and query (RFC 9112, section 3.2.2).
    - `/predict/` is `/predict`.
    - The bare path prefix `root_path` is redirected to the page below it, whose addresses are relative.
    """

    def __init__(self, app: App, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path.startswith(("http://", "https://")):
            path = urlsplit(path).path or "/"
        if self._root_path and path == self._root_path:
            await RedirectResponse(f"{self._root_path}/", HTTPStatus.PERMANENT_REDIRECT)(scope, receive, send)
            return
        if path.rstrip("/") not in ("", self._root_path):
            path = path.rstrip("/")
        head = scope["method"] == "HEAD"
        inner = {**scope, "path": path, "method": "GET" if head else scope["method"]}
        if self._root_path:
            inner["root_path"] = self._root_path  # Starlette finds routes with and without it
        try:
            await self._app(inner, receive, _without_body(send) if head else send)
        finally:
            scope["route"] = inner.get("route")  # for the middleware outside


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def is_request_id(given: bytes) -> bool:
    """Return whether a client may choose this request id: 1 to 128 plain characters, because ids go into logs."""
    return _REQUEST_ID.fullmatch(given) is not None


class RequestId:
    """Stores the client's `X-Request-ID`, or a new one, in `scope["state"]["request_id"]` and in the response."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if is_request_id(given) else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)


class LastResort:
    """Responds with `respond(scope, error)` to exceptions that nothing else has caught.

    Starlette's own handler runs outside all middleware and raises the exception again after responding: the server
    would log every failure twice, and the response would lack the request id.
    """

    def __init__(self, app: App, respond: Callable[[Scope, Exception], App]) -> None:
        self._app = app
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:  # there is no one left to respond to
            log.info("request %s: the client has disconnected", scope["state"]["request_id"])
        except Exception as error:  # no exception may end the process
            if started:
                raise
            await self._respond(scope, error)(scope, receive, send)


class BodyLimit:
    """Makes `receive` raise `UploadTooLargeError` as soon as a body exceeds `limit` bytes.

    It checks the declared length before the first byte is read, and the actual length while the body is read.
    """

    def __init__(self, app: App, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received = 0

        async def limited() -> Message:
            nonlocal received
            if declared.isdigit() and int(declared) > self._limit:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    def _too_large(self) -> UploadTooLargeError:
        return UploadTooLargeError(f"the request body exceeds the limit of {self._limit} bytes")
