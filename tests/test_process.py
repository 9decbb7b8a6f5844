"""The service as a real process: it starts, answers, stays up, and ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from scripts.load import wait_until_ready
from tests import models
from tests.pictures import decoded, encoded, noise


@pytest.fixture
def unused_port():
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


def test_a_full_queue_refuses_at_once_and_stays_alive(entry_of, unused_port):
    """Two places, sixteen clients: some are answered, the others told to come again; health answers throughout."""
    film = encoded(noise(1024, 1024))
    with serving(entry_of(models.batch_norm_dropout), unused_port, LIGHTBOX_MAX_QUEUE="2") as (process, url):
        wait_until_ready(url, process)
        with ThreadPoolExecutor(16) as pool:
            jobs = [pool.submit(httpx.post, f"{url}/explain", content=film, timeout=60) for _ in range(64)]
            while not all(job.done() for job in jobs):
                for path in ("livez", "readyz", "metrics"):
                    assert httpx.get(f"{url}/{path}").status_code == 200
        answers = [job.result() for job in jobs]
        metrics = httpx.get(f"{url}/metrics").text
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all(answer.headers["retry-after"] for answer in refused)
    assert f'lightbox_rejections_total{{reason="queue_full"}} {len(refused)}.0' in metrics


def test_clients_that_hang_up_leave_nothing_behind(entry_of, unused_port):
    """Their places are free again, and the log knows them as gone, not as failures."""
    film = encoded(noise(1024, 1024))
    head = b"POST /explain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(film)
    with serving(entry_of(models.batch_norm_dropout), unused_port, LIGHTBOX_LOG_LEVEL="info") as (process, url):
        wait_until_ready(url, process)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", unused_port)) as client:
                client.sendall(head + film)
        assert httpx.post(f"{url}/predict", content=film, timeout=60).status_code == 200
        metrics = httpx.get(f"{url}/metrics").text
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert "lightbox_in_flight_requests 0.0" in metrics
    assert "the client has gone" in log
    assert "Traceback" not in log


def test_told_to_stop_under_load_it_finishes_what_it_has_begun(entry_of, unused_port):
    """Not ready at once; every request that was in is answered; exit code 0."""
    film = encoded(noise(1024, 1024))
    entry = entry_of(models.batch_norm_dropout)
    with serving(entry, unused_port, LIGHTBOX_SHUTDOWN_DELAY_S="1") as (process, url):
        wait_until_ready(url, process)
        with ThreadPoolExecutor(12) as pool:
            jobs = [pool.submit(httpx.post, f"{url}/explain", content=film, timeout=60) for _ in range(12)]
            until(lambda: in_flight(url) == 12)
            process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
            assert [job.result().status_code for job in jobs] == [200] * 12
        assert process.wait(timeout=60) == 0


def until(condition, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)


def in_flight(url):
    line = next(x for x in httpx.get(f"{url}/metrics").text.splitlines() if x.startswith("lightbox_in_flight"))
    return float(line.split()[1])


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


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["no HTTP", "no host", "a length that is none", "a chunk that is none", "TLS"],
)
def test_what_is_not_http_is_answered_as_a_problem(shared_server, sent):
    """400 as problem details; the next request succeeds."""
    port, url = shared_server
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert httpx.get(f"{url}/livez").status_code == 200


def test_a_huge_head_is_not_read_to_its_end(shared_server):
    """Answered with 400 or cut off, whichever the client sees first; the next request succeeds."""
    port, url = shared_server
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client, suppress(ConnectionError):
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 8_000_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{url}/livez").status_code == 200


def test_a_connection_that_says_nothing_is_closed(shared_server):
    """And one that goes on with an endless head, too."""
    port, _ = shared_server
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as silent,
        socket.create_connection(("127.0.0.1", port), timeout=30) as slow,
    ):
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-")
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""


def test_memory_does_not_grow_with_requests(shared_server, shared_process):
    """After 600 films as after 200; a leak of one decoded film a request would double it."""
    _, url = shared_server
    film = encoded(noise(512, 512))
    resident = []
    with httpx.Client(timeout=60) as client:
        for number in range(600):
            path = "explain?format=jpeg" if number % 4 == 0 else "predict"
            assert client.post(f"{url}/{path}", content=film).status_code == 200
            if number in (199, 599):
                resident.append(psutil.Process(shared_process.pid).memory_info().rss)
    assert resident[1] < 1.1 * resident[0]


@pytest.fixture(scope="module")
def shared_process_and_port(entry_of):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(entry_of(models.batch_norm_dropout), port, LIGHTBOX_LOG_LEVEL="error") as (process, url):
        wait_until_ready(url, process)
        yield process, port


@pytest.fixture
def shared_server(shared_process_and_port):
    """Port and URL of a server that several tests use."""
    port = shared_process_and_port[1]
    return port, f"http://127.0.0.1:{port}"


@pytest.fixture
def shared_process(shared_process_and_port):
    return shared_process_and_port[0]


@contextmanager
def collector():
    """A trace collector; gives its URL and the list of spans that it is sent."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def test_a_request_is_a_trace_where_a_collector_is_named(entry_of, unused_port):
    """Its stages are spans under it, and it is a child of the caller's span."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with collector() as (endpoint, spans):
        entry = entry_of(models.batch_norm_dropout)
        with serving(entry, unused_port, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (process, url):
            wait_until_ready(url, process)
            caller = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
            assert httpx.post(f"{url}/explain", content=encoded(noise()), headers=caller).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
    traced = {span.name: span for span in spans if span.trace_id.hex() == trace_id}
    assert traced.keys() == {"POST /explain", "decode", "queue", "inference", "render"}
    root = traced.pop("POST /explain")
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    for span in traced.values():
        assert span.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano


@pytest.mark.parametrize("setting", ["LIGHTBOX_PORT=many", "LIGHTBOX_MAX_BATCH_SIZE=0"])
def test_settings_that_make_no_sense_end_the_process_with_the_reason(entry_of, unused_port, setting):
    """Status 1 and one line that names the variable."""
    name, value = setting.split("=")
    with serving(entry_of(models.batch_norm_dropout), unused_port, **{name: value}) as (process, _):
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert name in errors
    assert "Traceback" not in errors
