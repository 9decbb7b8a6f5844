"""OpenTelemetry traces, if the environment names a collector."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app import __version__
from app.errors import SetupError

if TYPE_CHECKING:  # an optional dependency
    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def tracer_from_environment() -> Tracer | None:
    """Create a tracer for the collector that the `OTEL_EXPORTER_OTLP_*` variables name; return None if they name none.

    The variables are those of the OpenTelemetry specification, "OpenTelemetry Protocol Exporter". A background thread
    sends spans over HTTP in batches, and sends the remaining ones when the process ends.

    Raises:
        SetupError: if a collector is named but the packages of the extra `otel` are not installed.
    """
    named = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if named is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # optional
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415  # optional
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # optional
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # optional
    except ImportError as error:
        needed = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
        raise SetupError(f"{named} is set, but the packages that send traces are missing: {needed}") from error
    name = os.environ.get("OTEL_SERVICE_NAME", "lightbox")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("lightbox", __version__)
