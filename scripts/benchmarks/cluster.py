"""What Ray adds to a single process, and what a second replica gains. Every server has one thread per model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings
from scripts.benchmarks.bare import median_ms
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load import Server, rate, served
from scripts.benchmarks.measurements import Effort, encode, sample_images
from scripts.errors import ScriptError

# Enough to keep two replicas busy, and less than a door lets wait.
CLIENTS = 4
_PATHS = ("/predict", "/explain?format=jpeg")
# The titles that Ray gives to its processes, and what they are; the first that fits counts.
_PARTS = {"ray::ServeReplica:lightbox:model": "replicas", "ray::ServeReplica:lightbox:door": "door"}


def run_cluster_benchmark(settings: Settings, effort: Effort, folder: Path | None) -> Iterator[Figure]:
    """Measure one process, then one and two replicas on Ray, one after the other.

    Raises:
        ScriptError: a server does not become ready.
        httpx.HTTPError: a request failed.
    """
    bodies = [encode(image, "JPEG") for image in sample_images(folder)]
    one_thread = {"LIGHTBOX_INTRA_OP_THREADS": "1", "LIGHTBOX_REQUEST_TIMEOUT_S": "300"}  # a busy machine is slow
    with served(settings, variables=one_thread) as server:
        direct = list(_measure(server, bodies, effort, "one process", {}))
        yield from direct
    known = {figure.name.partition(": ")[2]: figure for figure in direct}
    for replicas in (1, 2):
        variables = {**one_thread, "LIGHTBOX_REPLICAS": str(replicas)}
        label = f"Ray, {replicas} replica{'s' if replicas > 1 else ''}"
        with served(settings, module="app.cluster", limit_s=600, variables=variables) as server:
            yield Figure(f"{label}: time to readiness", server.start_s, "s")
            _wait_for_replicas(server.url, replicas)
            yield from _measure(server, bodies, effort, label, known)


def _wait_for_replicas(url: str, count: int, limit_s: float = 300) -> None:
    """Wait until `count` replicas run; the service is ready with the first.

    Raises:
        ScriptError: they do not within `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics").raise_for_status().text)
        if sum(s.value for family in families if family.name == "lightbox_replicas" for s in family.samples) >= count:
            return
        time.sleep(0.5)
    raise ScriptError(f"{count} replicas did not run within {limit_s:g} s")


def _measure(
    server: Server, bodies: Sequence[bytes], effort: Effort, label: str, direct: dict[str, Figure]
) -> Iterator[Figure]:
    """Measure latency, throughput and memory, each as a ratio to that of the `direct` process."""

    def figure(name: str, value: float, unit: str) -> Figure:
        if name not in direct:
            return Figure(f"{label}: {name}", value, unit)
        return Figure(f"{label}: {name}", value, unit, value / direct[name].value, "one process")

    with httpx.Client(base_url=server.url, timeout=60) as client:
        for path in _PATHS:
            yield figure(f"{path}, 1 client", median_ms(_post(client, path, bodies), effort.rounds, label), "ms")
    for path in _PATHS:
        reached = rate(server.url, path, bodies, clients=CLIENTS, requests=effort.requests, label=label)
        yield figure(f"{path}, {CLIENTS} clients", reached, "images/s")
    for part, megabytes in _memory(server.process).items():
        yield figure(f"memory of {part}", megabytes, "MB")


def _post(client: httpx.Client, path: str, bodies: Sequence[bytes]) -> Callable[[int], object]:
    return lambda number: client.post(path, content=bodies[number % len(bodies)]).raise_for_status()


def _memory(process: psutil.Process) -> dict[str, float]:
    """Return the memory of a server by its parts, in units of 10⁶ bytes; what processes share counts once (PSS)."""
    parts: dict[str, float] = {}
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            title = " ".join(each.cmdline())
            part = next((name for start, name in _PARTS.items() if title.startswith(start)), "everything else")
            used = each.memory_full_info().pss / 1e6
            parts[part] = parts.get(part, 0.0) + used
            parts["all"] = parts.get("all", 0.0) + used
    return parts
