"""A server process starts, says why if it doesn't, and ends."""

import json

import httpx
import psutil
import pytest

from tests import models
from tests.pictures import decoded, encoded, noise
from tests.servers import starting


def test_python_m_app_serves(shared_server):
    """It says where it listens, and answers over a socket."""
    assert f"localhost:{shared_server.port}" in shared_server.printed()
    image = encoded(noise(100, 80))
    assert httpx.post(f"{shared_server.url}/predict", files={"file": image}).status_code == 200
    overlay = httpx.post(f"{shared_server.url}/explain", content=image, headers={"accept": "image/png"})
    assert decoded(overlay.content).shape == (100, 80, 3)


def test_serving_does_without_keras(shared_server):
    """An artefact needs TensorFlow and no more; Keras would take another tenth of the memory."""
    mapped = [file.path for file in psutil.Process(shared_server.process.pid).memory_maps()]
    assert any("tensorflow" in path for path in mapped)
    assert not any("optree" in path for path in mapped)  # the library that only Keras loads


def test_readiness_is_503_until_the_model_is_loaded(shared_server):
    """The port is open before; from then on no connection is refused."""
    *before, last = shared_server.readiness
    assert before
    assert set(before) == {503}
    assert last == 200


def test_while_its_model_loads_a_server_is_alive_and_can_be_stopped(entry_of):
    """It answers 503 to requests, and a signal ends it although it has not finished loading."""
    with starting(entry_of(models.batch_norm_dropout)) as server:
        server.wait_until_open()
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert httpx.post(f"{server.url}/predict", content=encoded(noise())).status_code == 503
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        assert server.stop() == 0


def test_a_refused_model_ends_the_process_with_the_reason(entry_of, tmp_path):
    """The exit status is 1, and standard error holds one line instead of a stack trace."""
    entry = tmp_path / "tampered" / "1"
    entry.mkdir(parents=True)
    manifest = json.loads((entry_of(models.gap_linear) / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps(manifest))
    with starting(entry) as server:
        assert server.process.wait(timeout=60) == 1
        assert "is missing" in server.log()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize(("name", "value"), [("LIGHTBOX_PORT", "many"), ("LIGHTBOX_MAX_BATCH_SIZE", "0")])
def test_settings_that_are_refused_end_the_process_with_the_reason(served_entry, name, value):
    """The exit status is 1, and standard error names the variable."""
    with starting(served_entry, **{name: value}) as server:
        assert server.process.wait(timeout=60) == 1
        assert name in server.log()
        assert "Traceback" not in server.log()
