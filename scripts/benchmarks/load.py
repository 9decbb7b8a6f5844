"""A real server process and clients that ask it, bounded in count and time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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
    """A server process that is ready: where it answers, and the seconds that it took to get there."""

    url: str
    process: psutil.Process
    start_s: float

    @property
    def resident_mb(self) -> float:
        """Its resident memory in units of 10⁶ bytes."""
        return float(self.process.memory_info().rss / 1e6)


@contextmanager
def served(settings: Settings) -> Iterator[Server]:
    """A real server process on a free port, stopped when the block ends; every other setting is the environment's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "LIGHTBOX_PORT": str(port),
        "LIGHTBOX_HOST": "127.0.0.1",
        "LIGHTBOX_MODEL_STORE": str(settings.model_store),
        "LIGHTBOX_MODEL": settings.model,
        "LIGHTBOX_LOG_LEVEL": "warning",
    }
    url, start = f"http://127.0.0.1:{port}", time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "app"], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(url, process)
            yield Server(url, psutil.Process(process.pid), time.perf_counter() - start)
        finally:
            process.terminate()


def wait_until_ready(url: str, process: subprocess.Popen[Any], limit_s: float = 120) -> None:
    """Return once `url` answers that it is ready.

    Raises:
        ScriptError: the process has ended, or the time is over.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ScriptError(f"the server ended with status {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # nobody listens yet
        time.sleep(0.1)
    raise ScriptError(f"the server was not ready within {limit_s:g} s")


def rate(url: str, path: str, bodies: Sequence[bytes], *, clients: int, requests: int, label: str) -> float:
    """Requests a second that `clients` get answered who ask one after the other, `requests` in all.

    Raises:
        httpx.HTTPError: one was not answered well.
    """

    async def run() -> float:
        left = iter(tqdm(range(requests), desc=label, unit="request", leave=False))
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=_limits(clients)) as client:

            async def ask() -> None:
                for number in left:
                    (await client.post(path, content=bodies[number % len(bodies)])).raise_for_status()

            start = time.perf_counter()
            await asyncio.gather(*(ask() for _ in range(clients)))
            return requests / (time.perf_counter() - start)

    return asyncio.run(run())


def health_p99_ms(url: str, body: bytes, *, clients: int, rounds: int) -> tuple[dict[str, float], float]:
    """How long health endpoints take, in ms at the 99th percentile, while `clients` fill the queue.

    Also the median of how many requests were inside meanwhile, by which one sees whether it was full.

    The crowd is a process of its own: in one with the watcher it would measure how busy it is itself.

    Raises:
        ScriptError: a request of the crowd failed, or none came.
    """
    spawning = multiprocessing.get_context("spawn")
    done = spawning.Event()
    crowd = spawning.Process(target=_crowd, args=(url, body, clients, done), daemon=True)
    crowd.start()
    try:
        with httpx.Client(base_url=url, timeout=120) as client:
            _wait_for_load(client)
            time.sleep(1)  # and for the rest of the crowd
            waits: dict[str, list[float]] = {path: [] for path in HEALTH}
            inside = []
            for _ in tqdm(range(rounds), desc="health under load", unit="round", leave=False):
                for path in HEALTH:
                    start = time.perf_counter()
                    client.get(path).raise_for_status()
                    waits[path].append(1000 * (time.perf_counter() - start))
                inside.append(_in_flight(client))
    finally:
        done.set()
        crowd.join()
    if crowd.exitcode:
        raise ScriptError("a request of the crowd was not answered")
    return {path: float(np.percentile(taken, 99)) for path, taken in waits.items()}, statistics.median(inside)


def _wait_for_load(client: httpx.Client, limit_s: float = 60) -> None:
    """Return once the service is at work on something."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if _in_flight(client):
            return
        time.sleep(0.1)
    raise ScriptError(f"no request came within {limit_s:g} s")


def _in_flight(client: httpx.Client) -> float:
    """How many requests hold a place."""
    families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
    return sum(sample.value for family in families if family.name == _IN_FLIGHT for sample in family.samples)


def _crowd(url: str, body: bytes, clients: int, done: Event) -> None:
    """Ask until `done`; what is refused (503) is sent again after a tenth of a second."""

    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=_limits(clients)) as client:

            async def ask() -> None:
                while not done.is_set():
                    answer = await client.post("/predict", content=body)
                    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                        await asyncio.sleep(0.1)
                    else:
                        answer.raise_for_status()

            await asyncio.gather(*(ask() for _ in range(clients)))

    asyncio.run(run())


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
