"""What comes over the wire and is not HTTP."""

import json
import resource
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection

import httpx
import pytest

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.servers import serving


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


def test_an_idle_connection_is_kept(shared_server):
    """For longer than uvicorn's own five seconds: a load balancer would send into a closing one."""
    connection = HTTPConnection("127.0.0.1", shared_server[0], timeout=20)
    for pause_s in (6, 0):
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
        time.sleep(pause_s)
    connection.close()


@contextmanager
def open_files(limit):
    """What starts meanwhile may have so many files open, sockets among them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_idle_connections_do_not_use_up_the_process(entry_of, unused_port):
    """Three hundred clients stay after their answer, in a process with room for 256 files; newcomers are served."""
    with ExitStack() as stack:
        with open_files(256):
            process, url = stack.enter_context(serving(entry_of(models.batch_norm_dropout), unused_port))
        wait_until_ready(url, process)
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", unused_port), timeout=20))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.02)
        assert httpx.get(f"{url}/livez").status_code == 200
