"""What Prometheus sees: every metric's name, meaning and labels, in one place."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one application, in a registry of their own.

    No label may be a client's text, or a client could make as many series as it likes.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = Counter(
            "lightbox_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "lightbox_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "lightbox_stage_seconds",
            "Time that an image spent being decoded, waiting for the model (queue), in the model (inference, of its "
            "whole batch), and being drawn (render).",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "lightbox_batch_size",
            "Images in one call of the model.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.dropped = Counter(
            "lightbox_dropped", "Images that nobody waited for any more when the model was free.", registry=registry
        )
        self.queue_depth = Gauge("lightbox_queue_depth", "Images that wait for the model.", registry=registry)
        self.in_flight = Gauge("lightbox_in_flight_requests", "Requests that hold a place.", registry=registry)
        self.rejections = Counter(
            "lightbox_rejections", "Requests that were not given a result.", ["reason"], registry=registry
        )
        self.model_info = Gauge(
            "lightbox_model_info", "1 for every version in memory.", ["model", "version", "device"], registry=registry
        )
        self.model_memory = Gauge(
            "lightbox_model_memory_bytes",
            "What TensorFlow holds for a version: its weights, or on a GPU all that is allocated there.",
            ["model", "version"],
            registry=registry,
        )
        self.model_loads = Counter(
            "lightbox_model_loads", "Versions loaded, or refused.", ["model", "version", "outcome"], registry=registry
        )
        self.predictions = Counter(
            "lightbox_predictions",
            "Images by the class predicted for them; a shift is a sign of drift.",
            ["model", "version", "class"],
            registry=registry,
        )
        self.novel_images = Counter(
            "lightbox_novel_images",
            "Images unlike those that the model was trained on; a rise is a sign of drift.",
            ["model", "version"],
            registry=registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer: a known method, a route's template, the status (0: none)."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route, str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
