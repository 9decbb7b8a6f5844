"""The process starts, says why it does not, and ends."""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.pictures import decoded, encoded, noise
from tests.servers import in_flight, serving, until


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


def test_serving_does_without_keras(entry_of, unused_port):
    """An artefact needs TensorFlow and no more; Keras would take a tenth of the memory."""
    with serving(entry_of(models.batch_norm_dropout), unused_port) as (process, url):
        wait_until_ready(url, process)
        mapped = [file.path for file in psutil.Process(process.pid).memory_maps()]
    assert any("tensorflow" in path for path in mapped)
    assert not any("optree" in path for path in mapped)  # the library that only Keras loads


def test_the_port_is_open_while_the_model_loads(entry_of, unused_port):
    """Alive and not ready, then ready: 503 until then, never a refused connection."""
    with serving(entry_of(models.batch_norm_dropout), unused_port) as (_, url):
        process_is_up(unused_port)
        seen = [httpx.get(f"{url}/readyz").status_code]
        assert httpx.get(f"{url}/livez").status_code == 200
        assert httpx.post(f"{url}/predict", content=encoded(noise())).status_code in (200, 503)
        while seen[-1] != 200:
            seen.append(httpx.get(f"{url}/readyz").status_code)
            time.sleep(0.05)
    assert seen[0] == 503
    assert set(seen) == {503, 200}


def process_is_up(port, limit_s=60):
    """Return once somebody listens on `port`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


def test_told_to_stop_under_load_it_finishes_what_it_has_begun(entry_of, unused_port):
    """Not ready at once; every request that came before the port was closed is answered; exit code 0."""
    film = encoded(noise(1024, 1024))
    entry = entry_of(models.batch_norm_dropout)
    with serving(entry, unused_port, LIGHTBOX_SHUTDOWN_DELAY_S="3") as (process, url):
        wait_until_ready(url, process)
        with ThreadPoolExecutor(12) as pool:
            jobs = [pool.submit(httpx.post, f"{url}/explain", content=film, timeout=60) for _ in range(12)]
            until(lambda: in_flight(url) > 0)
            process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
            assert [job.result().status_code for job in jobs] == [200] * 12
        assert process.wait(timeout=60) == 0


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


@pytest.mark.parametrize("setting", ["LIGHTBOX_PORT=many", "LIGHTBOX_MAX_BATCH_SIZE=0"])
def test_settings_that_make_no_sense_end_the_process_with_the_reason(entry_of, unused_port, setting):
    """Status 1 and one line that names the variable."""
    name, value = setting.split("=")
    with serving(entry_of(models.batch_norm_dropout), unused_port, **{name: value}) as (process, _):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert name in errors
    assert "Traceback" not in errors
