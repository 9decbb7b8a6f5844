"""Servers on Ray, as processes of their own."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers import Server, starting, until

NEEDS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: make cluster")
# Ray starts a dozen processes, for which a busy machine takes its time.
START_S = 300


@contextmanager
def clustered(entry: Path, replicas: int = 2, **settings: str) -> Iterator[Server]:
    """A server on Ray, once all its replicas answer; it is told to stop when the block ends, if it has not."""
    settings = {"LIGHTBOX_REPLICAS": str(replicas), "RAY_COLOR_PREFIX": "0", **settings}
    with starting(entry, module="app.cluster", **settings) as server:
        family: list[psutil.Process] = []
        try:
            until(lambda: running(server) == replicas, START_S)
            family = descendants(server)
            yield server
        finally:
            if server.process.poll() is None:
                family = family or descendants(server)
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(timeout=START_S)
            for process in psutil.wait_procs(family, timeout=10)[1]:  # only of a server that failed
                process.kill()


def running(server: Server) -> float:
    """How many replicas of the default model the door knows to run."""
    assert server.process.poll() is None, server.log()
    try:
        return metric(httpx.get(f"{server.url}/metrics").text, "lightbox_replicas")
    except httpx.TransportError:
        return 0


def metric(exposition: str, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    samples = (line for line in exposition.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.split()[-1]) for line in samples if all(each in line for each in wanted))


def descendants(server: Server) -> list[psutil.Process]:
    """Every process that a server has started."""
    return psutil.Process(server.process.pid).children(recursive=True)


def replica_processes(server: Server) -> list[psutil.Process]:
    """The processes that run the models."""
    found = []
    for process in descendants(server):
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::ServeReplica:lightbox:model"):
                found.append(process)
    return found
