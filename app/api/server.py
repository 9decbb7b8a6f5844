"""The HTTP server: uvicorn with a graceful shutdown, and problem details for malformed HTTP."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

# The server closes a connection that has not sent a complete request head within this time. Clients could hold it open
# at no cost.
HEAD_TIMEOUT_S = 10.0
# Load balancers keep idle connections for a minute. The server keeps them for longer, or a load balancer would send a
# request into a connection that is closing; but not once connections use half of the file descriptors of the process.
KEEP_ALIVE_S = 75
CROWDED_KEEP_ALIVE_S = 1
_CROWD = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

# The time until the server probes a client that has closed its side, and the interval of the checks that follow.
_PROBE_AFTER_S = 1.0
_LOOK_S = 0.25
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server(uvicorn.Server):
    """A server that, on a signal to stop, calls `on_stop`, closes its port after `delay_s` and lets requests finish.

    The delay gives load balancers time to notice that the service is no longer ready.
    """

    def __init__(self, config: uvicorn.Config, *, on_stop: Callable[[], None], delay_s: float) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._delay_s = delay_s
        self._close_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal to stop; a second signal cuts the delay short."""
        if self._close_at is None:
            self._on_stop()
            self._close_at = time.monotonic() + self._delay_s
            self._captured_signals.append(sig)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to close the port. uvicorn calls this ten times a second."""
        if self._close_at is not None and time.monotonic() >= self._close_at:
            self.should_exit = True
        return await super().on_tick(counter)


class HttpProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn and h11, whose parser is strict; malformed HTTP gets problem details as well."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # same as in uvicorn
        super().connection_made(transport)
        self.loop.call_later(HEAD_TIMEOUT_S, self._close_if_silent)

    def on_response_complete(self) -> None:
        self.timeout_keep_alive = KEEP_ALIVE_S if len(self.connections) < _CROWD else CROWDED_KEEP_ALIVE_S
        super().on_response_complete()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature, which uvicorn narrows
        """Keep a connection open whose client has closed its own side after a complete request.

        Such a client waits for its response (RFC 9112, section 9.6). One that has closed both sides looks the same,
        until its system resets the connection in reply to some data. So, if the response takes longer, an interim
        response goes before it, which every HTTP/1.1 client has to ignore (RFC 9110, section 15.2).
        """
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.more_body or cycle.response_complete:
            return False
        cycle.keep_alive = False
        self.loop.call_later(_PROBE_AFTER_S, self._probe)
        return True

    def _probe(self) -> None:
        if self.transport.is_closing() or self.cycle.response_started:
            return
        if self.scope["http_version"] == "1.1":
            self.transport.write(_PROBE)
            self._abort_if_gone()

    def _abort_if_gone(self) -> None:
        # After the end of its input, the event loop no longer watches a connection.
        if self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self.loop.call_later(_LOOK_S, self._abort_if_gone)

    def _close_if_silent(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        if cycle is None and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Respond to malformed HTTP. No request was parsed, so the response has no request id."""
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
