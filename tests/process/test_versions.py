"""Versions come and go while requests do."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests import models
from tests.pictures import encoded, noise
from tests.servers import serving, until

IMAGE = encoded(noise())


def add_version(model, version):
    """Copy version 1 to `version`, the manifest first, as a careless copy may do it."""
    target = model / str(version)
    target.mkdir()
    shutil.copy(model / "1" / "manifest.json", target)
    shutil.copytree(model / "1", target, dirs_exist_ok=True)


def test_a_new_version_takes_over_under_load_without_a_failed_request(entry_of, tmp_path):
    """Then a broken one is refused, and removing the new one rolls back; requests go on all the while."""
    store = tmp_path / "model"
    shutil.copytree(entry_of(models.batch_norm_dropout), store / "1")
    stop, seen = threading.Event(), []

    def ask(url):
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                answer = client.post(f"{url}/predict", content=IMAGE)
                seen.append((answer.status_code, answer.json()["model"]["version"]))

    def served(url):
        return httpx.get(f"{url}/models/model").json()["version"]

    with serving(store / "1", LIGHTBOX_POLL_INTERVAL_S="0.2") as server:
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(ask, server.url) for _ in range(4)]
            add_version(store, 2)
            until(lambda: served(server.url) == 2)
            add_version(store, 3)
            (store / "3" / "saved_model.pb").write_bytes(b"no model")
            until(lambda: httpx.get(f"{server.url}/models/model").json()["refused"])
            refusal = httpx.get(f"{server.url}/models").json()["models"][0]["refused"]
            assert served(server.url) == 2
            shutil.rmtree(store / "2")
            until(lambda: served(server.url) == 1)
            stop.set()
            for job in jobs:
                job.result()
        assert server.stop() == 0
        assert "version 3 of model is refused" in server.log()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {1, 2}
    assert [refused["version"] for refused in refusal] == [3]
    assert "SHA-256" in refusal[0]["reason"]
    assert str(store) not in refusal[0]["reason"]


def test_another_version_can_be_asked_for(shared_server):
    """It is loaded on first use; a version or a model that the store lacks is 404."""
    with httpx.Client(base_url=shared_server.url, timeout=60) as client:
        for query, version in (("", 2), ("?version=1", 1), ("?model=tiny", 2), ("?model=tiny&version=1", 1)):
            answer = client.post(f"/predict{query}", content=IMAGE).json()
            assert answer["model"] == {"name": "tiny", "version": version}
        assert client.post("/predict?version=9", content=IMAGE).status_code == 404
        assert client.post("/predict?model=absent", content=IMAGE).status_code == 404
        assert client.get("/models/tiny?version=1").json()["described"] == 1
