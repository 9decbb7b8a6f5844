"""The Prometheus metrics: name, meaning and labels of each."""

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
    """The metrics of one application, in their own registry.

    No label may contain text from a client: a client could then create any number of time series. Subclasses of the
    instruments may send what they count to a second place, too.
    """

    def __init__(
        self,
        counter: type[Counter] = Counter,
        gauge: type[Gauge] = Gauge,
        histogram: type[Histogram] = Histogram,
    ) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._requests = counter(
            "lightbox_requests", "Completed requests.", ["protocol", "method", "route", "status"], registry=registry
        )
        self._request_seconds = histogram(
            "lightbox_request_seconds",
            "Time from a request's head to the end of its response.",
            ["protocol", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = histogram(
            "lightbox_stage_seconds",
            "Time that an image spent in decoding, in the queue, in inference (of its whole batch) or in rendering.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = histogram(
            "lightbox_batch_size",
            "Images in one model call.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.dropped = counter(
            "lightbox_dropped", "Images dropped from the queue because their request had ended.", registry=registry
        )
        self.queue_depth = gauge("lightbox_queue_depth", "Images waiting for the model.", registry=registry)
        self.in_flight = gauge("lightbox_in_flight_requests", "Requests that hold a slot.", registry=registry)
        self.rejections = counter(
            "lightbox_rejections", "Requests that were rejected, by reason.", ["reason"], registry=registry
        )
        self.model_info = gauge(
            "lightbox_model_info", "1 for each version in memory.", ["model", "version", "device"], registry=registry
        )
        self.model_memory = gauge(
            "lightbox_model_memory_bytes",
            "Memory of a version: its weights, or on a GPU all memory allocated there.",
            ["model", "version"],
            registry=registry,
        )
        self.model_loads = counter(
            "lightbox_model_loads", "Versions loaded or refused.", ["model", "version", "outcome"], registry=registry
        )
        self.predictions = counter(
            "lightbox_predictions",
            "Images by predicted class; a shift is a sign of drift.",
            ["model", "version", "class"],
            registry=registry,
        )
        self.novel_images = counter(
            "lightbox_novel_images",
            "Images called out of distribution; a rise is a sign of drift.",
            ["model", "version"],
            registry=registry,
        )
        self.regions_not_found = counter(
            "lightbox_regions_not_found",
            "Images in which the model did not find the organ that it looks for; a rise is a sign of drift.",
            ["model", "version"],
            registry=registry,
        )

    def answered(self, protocol: str, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response.

        Args:
            protocol: the protocol that the client speaks.
            method: a known HTTP method.
            route: the template of a route.
            status: the HTTP status; 0 if there was no response.
            seconds: the time from the request's head to the end of the response.
        """
        self._requests.labels(protocol, method, route, str(status)).inc()
        self._request_seconds.labels(protocol, route, str(status)).observe(seconds)

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
