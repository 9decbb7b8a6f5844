"""Many clients, and those that hang up or stall."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.pictures import encoded, noise
from tests.servers import serving


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


def test_a_full_queue_refuses_at_once_and_stays_alive(entry_of, unused_port):
    """Two places, sixteen clients: some are answered, the others told to come again; health answers throughout."""
    film = encoded(noise(1024, 1024))
    with serving(entry_of(models.batch_norm_dropout), unused_port, LIGHTBOX_MAX_CONCURRENT_REQUESTS="2") as (
        process,
        url,
    ):
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
    assert "the client has disconnected" in log
    assert "Traceback" not in log


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
