"""Servers that tests speak to over a real socket: processes of their own, and threads of this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from app.api.server import HttpProtocol


@dataclass(frozen=True, slots=True)
class Server:
    """A server process on `port` of this machine; it writes to files in `folder`, so it never waits for a reader.

    `readiness` is every status that `/readyz` gave until it was 200.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    readiness: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def printed(self) -> str:
        """What it has written to standard output."""
        return (self.folder / "stdout").read_text()

    def log(self) -> str:
        """What it has written to standard error, where the log goes."""
        return (self.folder / "stderr").read_text()

    def in_flight(self) -> float:
        """How many requests hold a slot."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("lightbox_in_flight_requests "))

    def wait_until_open(self) -> None:
        """Return once it listens."""
        until(self._listens)

    def wait_until_ready(self) -> None:
        """Return once its model is loaded; from the moment that it listens, it must answer every request."""
        self.wait_until_open()
        until(lambda: self._readiness() == httpx.codes.OK)

    def stop(self) -> int:
        """Tell it to stop, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _readiness(self) -> int:
        self.readiness.append(httpx.get(f"{self.url}/readyz").status_code)
        return self.readiness[-1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def starting(entry: Path, open_files: int | None = None, *, module: str = "app", **settings: str) -> Iterator[Server]:
    """A process that starts to serve the model of `entry`; it is killed when the block ends.

    `open_files` limits how many files, sockets among them, it may have open. `module` is what Python runs.
    """
    port = free_port()
    environment = os.environ | {
        "LIGHTBOX_MODEL_STORE": str(entry.parent.parent),
        "LIGHTBOX_MODEL": entry.parent.name,
        "LIGHTBOX_PORT": str(port),
        **settings,
    }
    command = [sys.executable, "-m", module]
    if open_files is not None:
        command = ["/bin/sh", "-c", 'ulimit -n "$0" && exec "$@"', str(open_files), *command]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            (folder / "stdout").open("wb") as stdout,
            (folder / "stderr").open("wb") as stderr,
            subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr) as process,
        ):
            try:
                yield Server(process, port, folder)
            finally:
                process.kill()


@contextmanager
def serving(entry: Path, open_files: int | None = None, **settings: str) -> Iterator[Server]:
    """A process as of `starting`, once it is ready."""
    with starting(entry, open_files, **settings) as server:
        server.wait_until_ready()
        yield server


@contextmanager
def in_thread(app: Any) -> Iterator[str]:
    """The address of `app`, served over a real socket by a thread of this process."""
    config = uvicorn.Config(app, port=0, http=HttpProtocol, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    """Return once `condition()` holds; for what nothing announces, such as the state of another process."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to be within {limit_s:g} s"
        time.sleep(0.01)
