"""Whether the service also speaks gRPC, which needs packages of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from app.errors import SetupError
from app.serving.service import Service
from app.settings import Settings


def grpc_from_settings(settings: Settings) -> Callable[[Service], AbstractAsyncContextManager[None]]:
    """Return what serves gRPC beside a running service; it does nothing if no port is set.

    Raises:
        SetupError: if a port is set, but the packages of the extra `grpc` are not installed.
    """
    if settings.grpc_port is None:
        return lambda _: nullcontext()
    try:
        from app.api.protocols.grpc.server import grpc_serving  # noqa: PLC0415  # optional
    except ImportError as error:
        raise SetupError("LIGHTBOX_GRPC_PORT is set, but its packages are missing: grpcio and protobuf") from error
    return lambda service: grpc_serving(service, settings)
