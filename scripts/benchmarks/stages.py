"""The time that a service spends in each stage of a request, according to its own metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prometheus_client.parser import text_string_to_metric_families

_METRIC = "lightbox_stage_seconds"


@contextmanager
def stage_times(client: httpx.Client) -> Iterator[dict[str, float]]:
    """Measure the mean milliseconds per image of each stage, for the requests in the block.

    The dictionary is filled when the block ends. Meanwhile, only the block may send requests to the service.
    """
    before, means = _totals(client), dict[str, float]()
    yield means
    for stage, (seconds, count) in _totals(client).items():
        seconds_before, count_before = before.get(stage, (0.0, 0.0))
        if count > count_before:
            means[stage] = 1000 * (seconds - seconds_before) / (count - count_before)


def _totals(client: httpx.Client) -> dict[str, tuple[float, float]]:
    """Return the total seconds and images of each stage."""
    sums, counts = dict[str, float](), dict[str, float]()
    for family in text_string_to_metric_families(client.get("/metrics").raise_for_status().text):
        for sample in family.samples:
            if sample.name == f"{_METRIC}_sum":
                sums[sample.labels["stage"]] = sample.value
            elif sample.name == f"{_METRIC}_count":
                counts[sample.labels["stage"]] = sample.value
    return {stage: (sums[stage], counts[stage]) for stage in sums}
