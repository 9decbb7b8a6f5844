"""Timing of the stages of a request, as a metric and, if tracing is on, as a span."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from app.telemetry.metrics import Metrics

if TYPE_CHECKING:  # an optional dependency
    from opentelemetry.trace import Tracer

Stage = Literal["decode", "queue", "inference", "render"]


class Telemetry:
    """The metrics of an application, and its tracer if tracing is on."""

    def __init__(self, metrics: Metrics | None = None, tracer: Tracer | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.tracer = tracer

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Time the block; a block that raises is not recorded."""
        start = time.perf_counter_ns()
        yield
        self.elapsed(name, start, time.perf_counter_ns())

    def elapsed(self, name: Stage, start: int, end: int) -> None:
        """Record that an image was in stage `name` from `start` to `end`, nanoseconds of the performance counter."""
        self.metrics.stage_seconds.labels(name).observe((end - start) / 1e9)
        if self.tracer is not None:
            epoch = time.time_ns() - time.perf_counter_ns()
            self.tracer.start_span(name, start_time=epoch + start).end(epoch + end)
