"""What every request passes: an id, an answer whatever happens, and a limit on its body's bytes. Plain ASGI."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from app.errors import UploadTooLargeError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")


class RequestId:
    """Puts the client's `X-Request-ID`, or a new one, into `scope["state"]["request_id"]` and into the response.

    An id that isn't 1 to 128 plain characters is replaced: it goes into logs.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)


class LastResort:
    """Answers with `respond(scope, error)` what nothing else has caught, once; the answer passes the id on.

    Starlette's own last resort lies outside of all middleware and raises again after answering, so that the server
    would log every failure twice and the answer would lack its id.
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
        except ClientDisconnect:  # nobody is there to be answered
            log.info("request %s: the client has gone", scope["state"]["request_id"])
        except Exception as error:  # the boundary: whatever it is, the process goes on serving
            if started:
                raise
            await self._respond(scope, error)(scope, receive, send)


class BodyLimit:
    """Makes `receive` raise `UploadTooLargeError` as soon as a body is longer than `limit` bytes.

    A declared length above the limit is refused before a byte is read; an undeclared one while it is.
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
        return UploadTooLargeError(f"the request body has more than {self._limit} bytes, which is the limit")
