"""Real server processes, for tests."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

from scripts.benchmarks.load import wait_until_ready


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(entry, port, **settings):
    environment = os.environ | {
        "LIGHTBOX_MODEL_STORE": str(entry.parent.parent),
        "LIGHTBOX_MODEL": entry.parent.name,
        "LIGHTBOX_PORT": str(port),
        # Nobody reads the pipe while the server runs: a line per request would fill it, and the server would wait.
        "LIGHTBOX_LOG_LEVEL": "warning",
        **settings,
    }
    command = [sys.executable, "-m", "app"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def until(condition, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)


def in_flight(url):
    line = next(x for x in httpx.get(f"{url}/metrics").text.splitlines() if x.startswith("lightbox_in_flight"))
    return float(line.split()[1])


@contextmanager
def served(entry, **settings):
    """The address of a process that serves the model of `entry`, once it is ready; it logs errors alone."""
    with serving(entry, free_port(), **{"LIGHTBOX_LOG_LEVEL": "error"} | settings) as (process, url):
        wait_until_ready(url, process)
        yield url
