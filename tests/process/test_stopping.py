"""A server that is told to stop under load, and the traces that it has sent when it ends."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import models
from tests.collector import collector
from tests.pictures import encoded, noise
from tests.servers import serving, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
CLIENTS = 12


@dataclass(frozen=True)
class Stopped:
    """What `CLIENTS` were answered whose requests were in flight at the signal, its exit status, and its spans."""

    statuses: list[int]
    exit_status: int
    spans: list[Any]


@pytest.fixture(scope="module")
def stopped(entry_of) -> Iterator[Stopped]:
    """A server that answers one traced request, and is told to stop while it works on many others."""
    image = encoded(noise(1024, 1024))
    with (
        collector() as (endpoint, spans),
        serving(
            entry_of(models.batch_norm_dropout),
            LIGHTBOX_SHUTDOWN_DELAY_S="3",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        ) as server,
    ):
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        assert httpx.post(f"{server.url}/explain", content=image, headers=headers).status_code == 200
        with ThreadPoolExecutor(CLIENTS) as pool:
            jobs = [pool.submit(httpx.post, f"{server.url}/explain", content=image, timeout=60) for _ in range(CLIENTS)]
            until(lambda: server.in_flight() > 0)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
            statuses = [job.result().status_code for job in jobs]
        return Stopped(statuses, server.process.wait(timeout=60), spans)


def test_it_finishes_what_it_has_begun(stopped):
    """It is no longer ready, answers every request that came before the port was closed, and exits with 0."""
    assert stopped.statuses == [200] * CLIENTS
    assert stopped.exit_status == 0


def test_it_sends_its_traces_before_it_ends(stopped):
    """Every answered request is a span, the last ones included."""
    assert [span.name for span in stopped.spans].count("POST /explain") == 1 + CLIENTS


def test_the_stages_of_a_request_are_the_children_of_its_span(stopped):
    """The request's span is itself a child of the caller's."""
    traced = {span.name: span for span in stopped.spans if span.trace_id.hex() == TRACE}
    assert traced.keys() == {"POST /explain", "decode", "queue", "inference", "render"}
    root = traced.pop("POST /explain")
    assert root.parent_span_id.hex() == CALLER
    for span in traced.values():
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
