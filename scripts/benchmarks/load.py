"""Load tests: a server process, and a limited number of clients that send requests to it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from app.settings import Settings
from scripts.errors import ScriptError

HEALTH = ("/livez", "/readyz", "/metrics")
_IN_FLIGHT = "lightbox_in_flight_requests"


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that is ready: its address, and the seconds from its start until it was ready."""

    url: str
    process: psutil.Process
    start_s: float

    @property
    def resident_mb(self) -> float:
        """The resident memory of the process in units of 10⁶ bytes."""
        return float(self.process.memory_info().rss / 1e6)


@contextmanager
def served(
    settings: Settings, *, module: str = "app", limit_s: float = 120, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server process on a free port until the block ends.

    It serves the model of `settings`, and reads all other settings from the environment and `variables`. `module` is
    what Python runs, and has `limit_s` seconds to become ready.

    Raises:
        ScriptError: the server does not become ready.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "LIGHTBOX_PORT": str(port),
        "LIGHTBOX_HOST": "127.0.0.1",
        "LIGHTBOX_MODEL_STORE": str(settings.model_store),
        "LIGHTBOX_MODEL": settings.model,
        "LIGHTBOX_LOG_LEVEL": "warning",
        **(variables or {}),
    }
    url, start = f"http://127.0.0.1:{port}", time.perf_counter()
    command = [sys.executable, "-m", module]  # a module of ours
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            wait_until_ready(url, process, limit_s)
            yield Server(url, psutil.Process(process.pid), time.perf_counter() - start)
        finally:
            process.terminate()


def wait_until_ready(url: str, process: subprocess.Popen[Any], limit_s: float = 120) -> None:
    """Wait until the service at `url` is ready.

    Raises:
        ScriptError: the process has ended, or the service is not ready within `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ScriptError(f"the server ended with status {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # the server does not listen yet
        time.sleep(0.1)
    raise ScriptError(f"the server was not ready within {limit_s:g} s")


def rate(url: str, path: str, bodies: Sequence[bytes], *, clients: int, requests: int, label: str) -> float:
    """Measure the throughput of `path` in requests per second.

    `clients` concurrent clients send `requests` requests in total, each client one after another.

    Raises:
        httpx.HTTPError: a request failed.
    """

    async def run() -> float:
        remaining = iter(tqdm(range(requests), desc=label, unit="request", leave=False))
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=_limits(clients)) as client:

            async def send_requests() -> None:
                for number in remaining:
                    (await client.post(path, content=bodies[number % len(bodies)])).raise_for_status()

            start = time.perf_counter()
            await asyncio.gather(*(send_requests() for _ in range(clients)))
            return requests / (time.perf_counter() - start)

    return asyncio.run(run())


def health_p99_ms(url: str, body: bytes, *, clients: int, rounds: int) -> tuple[dict[str, float], float]:
    """Measure the latency of the health endpoints while `clients` occupy the service.

    The clients run in a separate process, because in this one they would delay the measurement itself.

    Returns:
        The 99th percentile of each endpoint's latency in milliseconds, and the median number of requests in flight,
        which shows whether all slots were occupied.

    Raises:
        ScriptError: a request of the clients failed, or none arrived.
    """
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    load = context.Process(target=_send_load, args=(url, body, clients, done), daemon=True)
    load.start()
    try:
        with httpx.Client(base_url=url, timeout=120) as client:
            _wait_for_load(client)
            time.sleep(1)  # until the other clients have started too
            waits: dict[str, list[float]] = {path: [] for path in HEALTH}
            in_flight = []
            for _ in tqdm(range(rounds), desc="health under load", unit="round", leave=False):
                for path in HEALTH:
                    start = time.perf_counter()
                    client.get(path).raise_for_status()
                    waits[path].append(1000 * (time.perf_counter() - start))
                in_flight.append(_in_flight(client))
    finally:
        done.set()
        load.join()
    if load.exitcode:
        raise ScriptError("a request of the load test failed")
    return {path: float(np.percentile(taken, 99)) for path, taken in waits.items()}, statistics.median(in_flight)


def _wait_for_load(client: httpx.Client, limit_s: float = 60) -> None:
    """Wait until the service has requests in flight.

    Raises:
        ScriptError: none arrives within `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if _in_flight(client):
            return
        time.sleep(0.1)
    raise ScriptError(f"no request arrived within {limit_s:g} s")


def _in_flight(client: httpx.Client) -> float:
    """Return the number of requests that hold a slot."""
    families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
    return sum(sample.value for family in families if family.name == _IN_FLIGHT for sample in family.samples)


def _send_load(url: str, body: bytes, clients: int, done: Event) -> None:
    """Send requests until `done` is set; a client that gets a 503 waits for a tenth of a second."""

    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=_limits(clients)) as client:

            async def send_requests() -> None:
                while not done.is_set():
                    answer = await client.post("/predict", content=body)
                    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                        await asyncio.sleep(0.1)
                    else:
                        answer.raise_for_status()

            await asyncio.gather(*(send_requests() for _ in range(clients)))

    asyncio.run(run())


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
