"""Metrics that Ray's exporter shows as well, for every replica.

Ray prefixes the names with `ray_` and adds the labels `application`, `deployment` and `replica`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from ray.serve import metrics

from app.telemetry.metrics import Metrics


# Ray knows an instrument by its name, in a whole process.
@cache
def _counter(name: str, text: str, labels: tuple[str, ...]) -> metrics.Counter:
    return metrics.Counter(name, description=text, tag_keys=labels)


@cache
def _gauge(name: str, text: str, labels: tuple[str, ...]) -> metrics.Gauge:
    return metrics.Gauge(name, description=text, tag_keys=labels)


@cache
def _histogram(name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> metrics.Histogram:
    return metrics.Histogram(name, description=text, tag_keys=labels, boundaries=list(bounds))


def _tags(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return dict(zip(names, values, strict=True))


class _RayCounter(Counter):
    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        super().inc(amount, exemplar)
        mirror = _counter(self._name, self._documentation, tuple(self._labelnames))
        mirror.inc(amount, _tags(self._labelnames, self._labelvalues))


class _RayGauge(Gauge):
    def set(self, value: float) -> None:
        super().set(value)
        self._mirror(value, self._labelvalues)

    def remove(self, *labelvalues: Any) -> None:
        super().remove(*labelvalues)
        self._mirror(0.0, labelvalues)  # Ray can't forget a series

    def _mirror(self, value: float, labels: Sequence[str]) -> None:
        mirror = _gauge(self._name, self._documentation, tuple(self._labelnames))
        mirror.set(value, _tags(self._labelnames, labels))


class _RayHistogram(Histogram):
    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        super().observe(amount, exemplar)
        bounds = tuple(self._upper_bounds[:-1])  # the last is infinity
        mirror = _histogram(self._name, self._documentation, tuple(self._labelnames), bounds)
        mirror.observe(amount, _tags(self._labelnames, self._labelvalues))


class RayMetrics(Metrics):
    """The metrics of a door or of a replica."""

    def __init__(self) -> None:
        super().__init__(_RayCounter, _RayGauge, _RayHistogram)
        self.retries = _RayCounter(
            "lightbox_replica_retries", "Questions asked again because a replica was lost.", registry=self._registry
        )
        self.replicas = _RayGauge(
            "lightbox_replicas", "Running replicas of a deployment.", ["models"], registry=self._registry
        )
