"""The HTTP server: uvicorn, with a graceful stop, and problem details for what is not even HTTP."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# A connection that has not sent a whole request head by then is closed: it would be held open at no cost to its client.
HEAD_TIMEOUT_S = 10.0
# An idle connection is kept for longer than the minute for which load balancers keep theirs, else they send a request
# into a closing one; but not where idle connections take up half of what the process may have open.
KEEP_ALIVE_S = 75
CROWDED_KEEP_ALIVE_S = 1
_CROWD = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


class Server(uvicorn.Server):
    """Told to stop, it says so to `on_stop`, closes the port after `delay_s`, and lets requests finish.

    The delay is for load balancers, which need time to see that the service is no longer ready.
    """

    def __init__(self, config: uvicorn.Config, *, on_stop: Callable[[], None], delay_s: float) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._delay_s = delay_s
        self._close_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop; the second one does not wait."""
        if self._close_at is None:
            self._on_stop()
            self._close_at = time.monotonic() + self._delay_s
            self._captured_signals.append(sig)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to close the port."""
        if self._close_at is not None and time.monotonic() >= self._close_at:
            self.should_exit = True
        return await super().on_tick(counter)


class HttpProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn and h11, whose parser is strict; errors in the framing get problem details, too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.loop.call_later(HEAD_TIMEOUT_S, self._close_if_silent)

    def on_response_complete(self) -> None:
        self.timeout_keep_alive = KEEP_ALIVE_S if len(self.connections) < _CROWD else CROWDED_KEEP_ALIVE_S
        super().on_response_complete()

    def _close_if_silent(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None until the first request, against its declaration
        if cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be read as HTTP; there is no request, so there is no request id."""
        problem = {
            "type": "urn:lightbox:problem:MalformedRequest",
            "title": "Bad Request",
            "status": 400,
            "detail": msg,
            "instance": "urn:lightbox:request:unknown",
            "error": msg,
        }
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
