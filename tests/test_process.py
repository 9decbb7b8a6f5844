"""The service as a real process: it starts, answers, refuses to start, and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from scripts.benchmark import wait_until_ready
from tests import models
from tests.pictures import decoded, encoded, noise


@contextmanager
def serving(entry, port, **settings):
    environment = os.environ | {
        "LIGHTBOX_MODEL_STORE": str(entry.parent.parent),
        "LIGHTBOX_MODEL": entry.parent.name,
        "LIGHTBOX_PORT": str(port),
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


def test_python_m_app_serves_and_stops(entry_of, unused_port):
    """It says where to look, answers over a socket, and ends with 0 when told to."""
    with serving(entry_of(models.batch_norm_dropout), unused_port) as (process, url):
        wait_until_ready(url, process)
        assert f"localhost:{unused_port}" in process.stdout.readline()
        film = encoded(noise(100, 80))
        assert httpx.post(f"{url}/predict", files={"file": film}).status_code == 200
        picture = httpx.post(f"{url}/explain", content=film, headers={"accept": "image/png"})
        assert decoded(picture.content).shape == (100, 80, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_process_told_to_stop_while_it_loads_stops(entry_of, unused_port):
    """A container's first process would not hear it otherwise."""
    entry = entry_of(models.batch_norm_dropout)
    with serving(entry, unused_port, TF_CPP_MIN_LOG_LEVEL="0") as (process, _):
        assert process.stderr.readline()  # TensorFlow's first words, at its import
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_refused_model_ends_the_process_with_the_reason(entry_of, unused_port, tmp_path):
    """Status 1 and one line, not a stack trace."""
    entry = tmp_path / "tampered" / "1"
    entry.mkdir(parents=True)
    manifest = json.loads((entry_of(models.gap_linear) / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps(manifest))
    with serving(entry, unused_port) as (process, _):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "is missing" in errors
    assert "Traceback" not in errors


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_body_that_stalls_and_a_client_that_goes(entry_of, unused_port):
    """The deadline holds for the body, too; a client that hangs up is no failure, and not in the log as one."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    entry = entry_of(models.batch_norm_dropout)
    with serving(entry, unused_port, LIGHTBOX_REQUEST_TIMEOUT_S="2") as (process, url):
        wait_until_ready(url, process)
        with socket.create_connection(("127.0.0.1", unused_port), timeout=20) as stalled:
            stalled.sendall(head + b"0123456789")
            assert b" 504 " in stalled.recv(4096)
        with socket.create_connection(("127.0.0.1", unused_port)) as gone:
            gone.sendall(head + b"0123456789")
        assert httpx.post(f"{url}/predict", content=encoded(noise())).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert "Traceback" not in log


def test_health_answers_while_films_are_explained(entry_of, unused_port):
    """Eight films at once in another thread; /livez never waits for them."""
    film = encoded(noise(1024, 1024))
    with serving(entry_of(models.batch_norm_dropout), unused_port) as (process, url), httpx.Client() as client:
        wait_until_ready(url, process)
        with ThreadPoolExecutor(8) as pool:
            explained = [pool.submit(httpx.post, f"{url}/explain", content=film, timeout=60) for _ in range(16)]
            waits = []
            while not all(job.done() for job in explained):
                start = time.perf_counter()
                assert client.get(f"{url}/livez").status_code == 200
                waits.append(time.perf_counter() - start)
        assert [job.result().status_code for job in explained] == [200] * 16
    assert len(waits) > 5
