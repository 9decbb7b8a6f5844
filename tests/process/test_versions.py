"""Versions come and go while requests do."""

import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.pictures import encoded, noise
from tests.servers import serving, until


@pytest.fixture
def store(entry_of, tmp_path):
    """A store of the test's own, with version 1 of a model."""
    shutil.copytree(entry_of(models.batch_norm_dropout), tmp_path / "model" / "1")
    return tmp_path / "model"


def add_version(model, version):
    """Copy version 1 to `version`, the manifest first, as a careless copy may do it."""
    target = model / str(version)
    target.mkdir()
    shutil.copy(model / "1" / "manifest.json", target)
    shutil.copytree(model / "1", target, dirs_exist_ok=True)


def test_a_new_version_takes_over_under_load_without_one_failed_request(store, unused_port):
    """Then a broken one is refused, and removing the new one rolls back; requests go on all the while."""
    film = encoded(noise())
    stop, seen = threading.Event(), []

    def ask(url):
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                answer = client.post(f"{url}/predict", content=film)
                seen.append((answer.status_code, answer.json()["model"]["version"]))

    def served(url):
        return httpx.get(f"{url}/models/model").json()["version"]

    with serving(store / "1", unused_port, LIGHTBOX_POLL_INTERVAL_S="0.2") as (process, url):
        wait_until_ready(url, process)
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(ask, url) for _ in range(4)]
            add_version(store, 2)
            until(lambda: served(url) == 2)
            add_version(store, 3)
            (store / "3" / "saved_model.pb").write_bytes(b"no model")
            until(lambda: httpx.get(f"{url}/models/model").json()["refused"])
            refusal = httpx.get(f"{url}/models").json()["models"][0]["refused"]
            assert served(url) == 2
            shutil.rmtree(store / "2")
            until(lambda: served(url) == 1)
            stop.set()
            for job in jobs:
                job.result()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {1, 2}
    assert [refused["version"] for refused in refusal] == [3]
    assert "SHA-256" in refusal[0]["reason"]
    assert str(store) not in refusal[0]["reason"]
    assert "version 3 of model is refused" in log


def test_another_version_can_be_asked_for(store, unused_port):
    """It is loaded on first use; one that isn't there is 404."""
    add_version(store, 2)
    film = encoded(noise())
    with serving(store / "1", unused_port) as (process, url):
        wait_until_ready(url, process)
        for query, version in (("", 2), ("?version=1", 1), ("?model=model", 2), ("?model=model&version=1", 1)):
            answer = httpx.post(f"{url}/predict{query}", content=film, timeout=60).json()
            assert answer["model"] == {"name": "model", "version": version}
        assert httpx.post(f"{url}/predict?version=9", content=film).status_code == 404
        assert httpx.post(f"{url}/predict?model=absent", content=film).status_code == 404
        assert httpx.get(f"{url}/models/model?version=1").json()["described"] == 1
