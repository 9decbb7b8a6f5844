"""The service on Ray: what it answers, what it survives, and how it stops."""

import base64
import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests import models
from tests.cluster.clusters import (
    NEEDS_RAY,
    START_S,
    clustered,
    descendants,
    metric,
    replica_processes,
    running,
)
from tests.collector import collector
from tests.pictures import encoded, noise
from tests.servers import free_port, starting, until

pytestmark = [NEEDS_RAY, pytest.mark.cluster]

IMAGE = encoded(noise())
# Takes a tiny model long enough to be interrupted.
SLOW = {"faithfulness": "true", "all_classes": "true"}
CLIENTS = 6
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def store(served_entry, tmp_path_factory):
    """A store of its own, for tests that change it."""
    return shutil.copytree(served_entry.parent.parent, tmp_path_factory.mktemp("store"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def spans():
    """The endpoint of a collector, and the spans that it has received."""
    with collector() as collected:
        yield collected


@pytest.fixture(scope="module")
def two(store, spans):
    """Two replicas."""
    settings = {
        "LIGHTBOX_POLL_INTERVAL_S": "0.2",
        "LIGHTBOX_RAY_METRICS_PORT": str(free_port()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans[0],
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with clustered(store / "tiny" / "2", **settings) as server:
        server_metrics = f"http://127.0.0.1:{settings['LIGHTBOX_RAY_METRICS_PORT']}/metrics"
        yield server, server_metrics


@pytest.fixture(scope="module")
def one(entry_of):
    """One replica that works on one request at a time, with room for one more."""
    settings = {"LIGHTBOX_REPLICA_REQUESTS": "1", "LIGHTBOX_REPLICA_QUEUE": "1", "LIGHTBOX_FAITHFULNESS_MAPS": "199"}
    with clustered(entry_of(models.batch_norm_dropout), 1, **settings) as server:
        yield server


@contextmanager
def load(url, path="/predict", **parameters):
    """Ask all the time from several threads; the list fills with the responses."""
    stop, seen = threading.Event(), []

    def ask():
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                seen.append(client.post(f"{url}{path}", params=parameters, content=IMAGE))

    with ThreadPoolExecutor(CLIENTS) as pool:
        jobs = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            yield seen
        finally:
            stop.set()
        for job in jobs:
            job.result()


OPEN_INFERENCE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(IMAGE).decode()]}
REQUESTS = {
    "predict": ("POST", "/predict?top=2", IMAGE, {}),
    "explain": ("POST", "/explain?method=layercam&all_classes=true", IMAGE, {}),
    "json": ("POST", "/explain", json.dumps({"image": base64.b64encode(IMAGE).decode(), "alpha": 0.3}).encode(), {}),
    "picture": ("POST", "/explain?colormap=viridis", IMAGE, {"Accept": "image/webp"}),
    "array": ("POST", "/explain?class=NORMAL", IMAGE, {"Accept": "application/x-npy"}),
    "version": ("POST", "/predict?version=1", IMAGE, {}),
    "other model": ("POST", "/predict?model=planted", IMAGE, {}),
    "unknown model": ("POST", "/predict?model=nobody", IMAGE, {}),
    "unknown class": ("POST", "/explain?class=nobody", IMAGE, {}),
    "unknown parameter": ("POST", "/predict?nobody=1", IMAGE, {}),
    "no image": ("POST", "/predict", b"", {}),
    "broken image": ("POST", "/predict", IMAGE[:-40], {}),
    "encoding": ("POST", "/predict", IMAGE, {"Content-Encoding": "rot13"}),
    "not acceptable": ("POST", "/explain", IMAGE, {"Accept": "audio/ogg"}),
    "no such route": ("GET", "/nobody", b"", {}),
    "KServe V1": (
        "POST",
        "/v1/models/tiny:explain",
        json.dumps({"instances": [{"b64": base64.b64encode(IMAGE).decode()}] * 2}).encode(),
        {},
    ),
    "Open Inference": (
        "POST",
        "/v2/models/tiny/infer",
        json.dumps({"id": "same", "inputs": [OPEN_INFERENCE]}).encode(),
        {},
    ),
    "Open Inference's readiness": ("GET", "/v2/models/tiny/ready", b"", {}),
    "liveness": ("GET", "/livez", b"", {}),
    "readiness": ("GET", "/readyz", b"", {}),
    "page": ("GET", "/", b"", {}),
    "description": ("GET", "/openapi.json", b"", {}),
}
# What the server software says of itself, and what differs from one response to the next.
OWN_HEADERS = {"date", "server"}


@pytest.mark.parametrize("name", REQUESTS)
def test_answers_are_those_of_a_single_process(name, two, shared_server):
    """Byte for byte, headers as well."""
    method, path, body, headers = REQUESTS[name]
    headers = {"X-Request-ID": "same", **headers}
    here, there = (
        httpx.request(method, f"{server.url}{path}", content=body, headers=headers, timeout=60)
        for server in (shared_server, two[0])
    )
    assert there.status_code == here.status_code
    assert there.content == here.content

    def shown(response):
        return sorted((key, value) for key, value in response.headers.multi_items() if key not in OWN_HEADERS)

    assert shown(there) == shown(here)


def test_models_are_described_as_by_a_single_process(two, shared_server):
    """But for the versions in memory, which are those of the replica that answers."""
    here, there = (httpx.get(f"{server.url}/models/tiny?version=2").json() for server in (shared_server, two[0]))
    assert 2 in there["loaded"]
    assert {**there, "loaded": None} == {**here, "loaded": None}
    names = [model["name"] for model in httpx.get(f"{two[0].url}/models").json()["models"]]
    assert names == ["planted", "tiny"]


def test_every_replica_counts_under_the_names_of_a_single_process(two):
    """In Ray's exporter, with the replica as a label."""
    server, exporter = two
    with load(server.url) as seen:
        until(lambda: len(seen) > 20)

    def replicas_seen():
        lines = httpx.get(exporter, timeout=30).text.splitlines()
        found = [line for line in lines if line.startswith("ray_lightbox_predictions_total{")]
        return len({line.split('replica="')[1].split('"')[0] for line in found}) == 2

    until(replicas_seen, 60)

    def requests_seen():
        exposition = httpx.get(exporter, timeout=30).text
        return metric(exposition, "ray_lightbox_requests_total", route="/predict", status="200") >= 20

    until(requests_seen, 60)  # Ray collects what processes count every few seconds
    exposition = httpx.get(exporter, timeout=30).text
    assert metric(exposition, "ray_lightbox_stage_seconds_count", stage="inference") >= 20
    exposed = httpx.get(f"{server.url}/metrics").text
    assert metric(exposed, "lightbox_requests_total", route="/predict", status="200") >= 20


def test_ids_and_traces_reach_the_replica(two, spans):
    """The span of the replica is a child of the door's, which is one of the caller's."""
    headers = {"X-Request-ID": "seen-everywhere", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    response = httpx.post(f"{two[0].url}/predict", content=IMAGE, headers=headers, timeout=60)
    assert response.json()["id"] == response.headers["x-request-id"] == "seen-everywhere"

    def named():
        return {span.name: span for span in spans[1] if span.trace_id.hex() == TRACE}

    until(lambda: {"POST /predict", "replica predict", "inference"} <= named().keys(), 60)
    found = named()
    assert found["POST /predict"].parent_span_id.hex() == "b7ad6b7169203331"
    assert found["replica predict"].parent_span_id == found["POST /predict"].span_id
    assert found["inference"].parent_span_id == found["replica predict"].span_id


def test_ray_listens_on_the_loopback_interface(two):
    """Except for a port of each replica, to which Ray gives no address."""
    server, _ = two
    deployed = {each.pid for each in descendants(server) if " ".join(each.cmdline()).startswith("ray::ServeReplica")}
    ours = {each.pid for each in descendants(server)} - deployed
    listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    addresses = {each.laddr.ip for each in listening if each.pid in ours}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    exposed = [each for each in listening if each.pid in deployed and each.laddr.ip in ("0.0.0.0", "::")]  # noqa: S104
    assert len(exposed) == len(deployed)


def test_a_new_version_rolls_through_the_replicas_without_a_failed_request(two, store):
    """Every answer names the version that it comes from."""
    server, _ = two
    golden = {
        version: httpx.post(f"{server.url}/predict?version={version}", content=IMAGE).json()["probabilities"]
        for version in (1, 2)
    }
    assert golden[1] != pytest.approx(golden[2], abs=1e-2)
    with load(server.url) as seen:
        until(lambda: len(seen) > 20)
        shutil.rmtree(store / "tiny" / "2")

        def latest():
            return {response.json()["model"]["version"] for response in seen[-30:]}

        until(lambda: latest() == {1}, START_S)
        count = len(seen)
        until(lambda: len(seen) > count + 40)
    assert {response.status_code for response in seen} == {200}
    for response in seen:
        answer = response.json()
        # Images share batches, which moves the last digits.
        assert answer["probabilities"] == pytest.approx(golden[answer["model"]["version"]], abs=1e-4)
    assert {response.json()["model"]["version"] for response in seen} == {1, 2}


def test_a_killed_replica_loses_no_request(two):
    """Its questions are asked again, and another replica takes its place."""
    server, _ = two
    until(lambda: running(server) == 2, START_S)
    victim = replica_processes(server)[0]
    with load(server.url, "/explain", **SLOW) as seen:
        until(lambda: len(seen) > 10)
        victim.kill()
        count = len(seen)
        until(lambda: len(seen) > count + 60, START_S)
    assert {response.status_code for response in seen} == {200}
    assert metric(httpx.get(f"{server.url}/metrics").text, "lightbox_replica_retries_total") >= 1
    until(lambda: running(server) == 2, START_S)


def test_a_full_queue_is_refused_with_problem_details(one):
    """By the door, which says when to try again."""
    with ThreadPoolExecutor(12) as pool:
        responses = list(
            pool.map(lambda _: httpx.post(f"{one.url}/explain", params=SLOW, content=IMAGE, timeout=60), range(12))
        )
    refused = [response for response in responses if response.status_code != 200]
    assert refused
    assert len(refused) < 12
    for response in refused:
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == "urn:lightbox:problem:QueueFull"


def hang_up(server, request_id):
    """Ask something slow, and disconnect before the answer."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = (
            f"POST /explain?faithfulness=true&all_classes=true HTTP/1.1\r\nHost: x\r\nX-Request-ID: {request_id}\r\n"
            f"Content-Length: {len(IMAGE)}\r\n\r\n"
        )
        connection.sendall(head.encode() + IMAGE)
        until(lambda: server.in_flight() == 1)


def test_a_replica_learns_that_a_client_has_disconnected(one):
    """It stops working for it."""
    for attempt in range(10):  # one of them is disconnected while the replica works on it
        hang_up(one, f"gone-{attempt}")
        until(lambda: one.in_flight() == 0)
        time.sleep(0.2)  # Ray passes the log of its processes on several times a second
        if '"request_id": "gone-' in one.log() and "the call was cancelled" in one.log():
            break
    cancelled = [line for line in one.log().splitlines() if "the call was cancelled" in line]
    assert cancelled
    assert '"request_id": "gone-' in cancelled[0]


def test_a_port_that_is_taken_is_an_error(entry_of):
    """Ray would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        entry = entry_of(models.batch_norm_dropout)
        with starting(entry, module="app.cluster", LIGHTBOX_PORT=str(port)) as server:
            assert server.process.wait(timeout=START_S) == 1
            assert f"port {port} of 127.0.0.1 is taken" in server.log()


def test_a_model_that_a_replica_refuses_is_told(entry_of, tmp_path):
    """By the command, with the reason."""
    entry = shutil.copytree(entry_of(models.batch_norm_dropout), tmp_path / "model" / "1")
    (entry / "saved_model.pb").write_bytes(b"no model")
    settings = {"LIGHTBOX_REPLICAS": "1"}
    with starting(entry, module="app.cluster", **settings) as server:
        assert server.process.wait(timeout=START_S) == 1
        assert (
            "lightbox: the model is refused: version 1 of 'model': model/1/saved_model.pb has the SHA-256"
            in server.log()
        )


def test_a_signal_lets_open_requests_finish_and_leaves_no_process(one):
    """While they do, new ones are refused."""
    family = descendants(one)
    assert len(family) > 4
    with ThreadPoolExecutor(1) as pool:
        open_request = pool.submit(lambda: httpx.post(f"{one.url}/explain", params=SLOW, content=IMAGE, timeout=60))
        until(lambda: one.in_flight() == 1)
        assert one.stop() == 0
        assert open_request.result().status_code == 200
    assert psutil.wait_procs(family, timeout=10)[1] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", one.port)) != 0
