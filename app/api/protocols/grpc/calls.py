"""What surrounds every call over gRPC: its request id, its key, its error, and its line in the log."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from pydantic import SecretStr

from app.api.access_log import record
from app.api.auth import check_key
from app.api.middleware import is_request_id
from app.api.problems import Fault, fault_of, log_unexpected
from app.errors import MalformedBodyError, UnsupportedFeatureError
from app.telemetry.logs import request_id
from app.telemetry.stages import Telemetry

SERVICE = "/inference.GRPCInferenceService/"
# Health is open, as it is over HTTP.
_OPEN = frozenset(f"{SERVICE}{name}" for name in ("ServerLive", "ServerReady", "ModelReady"))
# A client reads the details from headers, for which it has 8 KiB; each character can take nine bytes there.
_MAX_DETAIL = 800

_CODES = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Wraps the handler of every call.

    The status in metrics and in the log is that of HTTP for the same outcome, so that alerts cover both.
    """

    def __init__(self, keys: Sequence[SecretStr], telemetry: Telemetry) -> None:
        self._keys = keys
        self._telemetry = telemetry

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Return the handler of a call, wrapped; see `grpc.aio.ServerInterceptor`."""
        handler, metadata = await continuation(details), dict(details.invocation_metadata)
        if handler is None or handler.unary_unary is None:
            return _refusal(details.method)

        async def handle(message: Any, context: Any) -> Any:
            given = metadata.get("x-request-id", "")
            token = request_id.set(given if is_request_id(given.encode()) else uuid.uuid4().hex)
            context.set_trailing_metadata((("x-request-id", request_id.get()),))
            status, start = 0, time.perf_counter()
            try:
                if details.method not in _OPEN:
                    check_key(_key(metadata), self._keys)
                answer = await handler.unary_unary(_parsed(message, handler.request_deserializer), context)
                status = HTTPStatus.OK.value
            except Exception as error:  # no exception may end the process  # noqa: BLE001
                fault = fault_of(error)
                status = fault.status.value
                if fault.status is HTTPStatus.INTERNAL_SERVER_ERROR:
                    log_unexpected(request_id.get(), error)
                await _abort(context, error, fault)
            finally:
                record(self._telemetry, "grpc", "POST", details.method, status, time.perf_counter() - start)
                request_id.reset(token)
            return answer

        return grpc.unary_unary_rpc_method_handler(handle, response_serializer=handler.response_serializer)


def _parsed(message: bytes, parse: Callable[[bytes], Any]) -> Any:
    # gRPC itself would call this the failure of the server.
    try:
        return parse(message)
    except DecodeError as error:
        raise MalformedBodyError("the message is not one of the protocol") from error


async def _abort(context: Any, error: Exception, fault: Fault) -> None:
    unsupported = isinstance(error, UnsupportedFeatureError)
    code = grpc.StatusCode.UNIMPLEMENTED if unsupported else _CODES.get(fault.status, grpc.StatusCode.INVALID_ARGUMENT)
    metadata = [("x-request-id", request_id.get())]
    metadata += [(name.lower(), value) for name, value in fault.headers.items() if name == "Retry-After"]
    await context.abort(code, fault.detail[:_MAX_DETAIL], tuple(metadata))


def _key(metadata: dict[str, Any]) -> str:
    """Return the API key of a call, from the same fields as over HTTP."""
    scheme, _, credentials = str(metadata.get("authorization", "")).partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else str(metadata.get("x-api-key", ""))


def _refusal(method: str) -> Any:
    """Return a handler for a method that the service lacks, with or without streams."""

    async def refuse(_messages: Any, context: Any) -> None:
        name = method.removeprefix(SERVICE)[:80]
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Lightbox does not support {name}: it has no streams, no shared memory and no control of the model "
            "repository; ask ModelInfer",
        )

    return grpc.stream_stream_rpc_method_handler(refuse)
