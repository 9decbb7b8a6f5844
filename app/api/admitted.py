"""Admission of a request: it holds a slot while its body is read, decompressed and parsed, and until it is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from app.api.content_encoding import decode_content
from app.errors import ModelNotLoadedError
from app.serving.admission import Slot
from app.serving.service import Service

T = TypeVar("T")


def service_of(request: Request) -> Service:
    """Return the service that the lifespan has started.

    Raises:
        ModelNotLoadedError: if it has not started yet.
    """
    service: Service | None = request.app.state.service
    if service is None:
        raise ModelNotLoadedError("the service has not started yet")
    return service


@asynccontextmanager
async def admitted(request: Request, parse: Callable[[bytes], T]) -> AsyncIterator[tuple[Service, T]]:
    """Hold a slot during the block, and yield what `parse` makes of the body; it runs in a worker."""
    service = service_of(request)
    async with service.admission.slot() as slot:
        body = await _body(request, slot)
        yield service, await service.workers.run(lambda: parse(_decoded(request, body)))


def _decoded(request: Request, body: bytes) -> bytes:
    encodings = ",".join(request.headers.getlist("content-encoding"))
    return decode_content(body, encodings, request.app.state.settings.max_upload_bytes) if encodings else body


async def _body(request: Request, slot: Slot) -> bytes:
    pieces = []
    async for piece in request.stream():
        pieces.append(piece)
        slot.progress()
    slot.complete()
    return b"".join(pieces)
