"""Many clients, and clients that hang up or stall."""

import logging
import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil

from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.pictures import encoded, noise
from tests.servers import in_thread, until

IMAGE = encoded(noise(1024, 1024))
HEALTH = ("livez", "readyz", "metrics")


def ask(port, path="/explain", body=IMAGE):
    """Send a request without waiting for its answer, and return the connection."""
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
    return client


@contextmanager
def occupied(server):
    """Both slots of `server` are taken for as long as the block lasts, by the same two requests."""
    with (
        ask(server.port, "/explain?faithfulness=true") as first,
        ask(server.port, "/explain?faithfulness=true") as second,
    ):
        until(lambda: server.in_flight() == 2)
        yield
        assert server.in_flight() == 2
        answered, _, _ = select.select([first, second], [], [], 0)
        assert not answered
    until(lambda: server.in_flight() == 0)


def rejected(server):
    """How many requests found no slot."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(
        float(line.split()[1]) for line in lines if line.startswith('lightbox_rejections_total{reason="queue_full"}')
    )


def test_health_answers_while_every_slot_is_taken(narrow_server):
    """The same two requests are still being worked on afterwards: health did not wait for them."""
    with occupied(narrow_server), httpx.Client(base_url=narrow_server.url) as client:
        for path in HEALTH * 10:
            assert client.get(f"/{path}").status_code == 200


def test_without_a_free_slot_requests_are_refused_without_waiting(narrow_server):
    """Each gets 503 with Retry-After, and is counted; when a slot is free again, the next one is answered."""
    before = rejected(narrow_server)
    with occupied(narrow_server), ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{narrow_server.url}/explain", content=IMAGE, timeout=60), range(16))
        )
    assert [answer.status_code for answer in answers] == [503] * 16
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert rejected(narrow_server) == before + 16
    assert httpx.post(f"{narrow_server.url}/explain", content=IMAGE, timeout=60).status_code == 200


def test_more_clients_than_slots_are_answered_or_refused(narrow_server):
    """Sixteen clients send 64 requests: each gets an answer or 503, and health answers throughout."""
    before = rejected(narrow_server)
    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(httpx.post, f"{narrow_server.url}/explain", content=IMAGE, timeout=60) for _ in range(64)]
        while not all(job.done() for job in jobs):
            for path in HEALTH:
                assert httpx.get(f"{narrow_server.url}/{path}").status_code == 200
    statuses = [job.result().status_code for job in jobs]
    assert set(statuses) == {200, 503}
    assert rejected(narrow_server) == before + statuses.count(503)


def test_clients_that_hang_up_leave_nothing_behind(shared_server):
    """Their slots are free again, and nothing is logged as a failure, whether or not an answer was quicker."""
    logged = len(shared_server.log())
    for _ in range(20):
        ask(shared_server.port).close()
    assert httpx.post(f"{shared_server.url}/predict", content=IMAGE, timeout=60).status_code == 200
    until(lambda: shared_server.in_flight() == 0)
    assert "Traceback" not in shared_server.log()[logged:]


def test_the_work_of_a_client_that_resets_its_connection_is_dropped(narrow_server):
    """Its slot is free again, and the log says that it has disconnected, not that it failed."""
    logged = len(narrow_server.log())
    with ask(narrow_server.port, "/explain?faithfulness=true") as client:
        until(lambda: narrow_server.in_flight() == 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() then resets
    until(lambda: narrow_server.in_flight() == 0)
    until(lambda: "the client has disconnected" in narrow_server.log()[logged:])
    assert "Traceback" not in narrow_server.log()[logged:]


def test_a_body_that_stalls_ends_at_the_deadline(caplog):
    """The answer is 504; a client that hangs up in the middle of its body is not logged as a failure."""
    caplog.set_level(logging.INFO)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with in_thread(create_app(Settings(request_timeout_s=0.5), BrightnessRuntime())) as url:
        address = ("127.0.0.1", httpx.URL(url).port)
        with socket.create_connection(address, timeout=20) as stalled:
            stalled.sendall(head + b"0123456789")
            assert b" 504 " in stalled.recv(4096)
        with socket.create_connection(address) as gone:
            gone.sendall(head + b"0123456789")
        until(lambda: "the client has disconnected" in caplog.text)
        assert httpx.post(f"{url}/predict", content=encoded(noise())).status_code == 200
    assert "Traceback" not in caplog.text


def test_memory_does_not_grow_with_requests(shared_server):
    """It is the same after 600 images as after 200; a leak of one decoded image a request would double it."""
    image = encoded(noise(512, 512))
    resident = []
    with httpx.Client(base_url=shared_server.url, timeout=60) as client:
        for number in range(600):
            path = "explain?format=jpeg" if number % 4 == 0 else "predict"
            assert client.post(f"/{path}", content=image).status_code == 200
            if number in (199, 599):
                resident.append(psutil.Process(shared_server.process.pid).memory_info().rss)
    assert resident[1] < 1.1 * resident[0]
