"""What comes over the wire and is not HTTP, and connections that say nothing."""

import json
import socket
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import httpx
import pytest


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
    ids=["no HTTP", "no host", "an invalid length", "an invalid chunk", "TLS"],
)
def test_what_is_not_http_is_answered_as_a_problem(shared_server, sent):
    """The answer is 400 with problem details, and the next request succeeds."""
    with socket.create_connection(("127.0.0.1", shared_server.port), timeout=20) as client:
        client.sendall(sent)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert httpx.get(f"{shared_server.url}/livez").status_code == 200


def test_a_huge_head_is_not_read_to_its_end(shared_server):
    """The client sees 400 or a closed connection, whichever comes first, and the next request succeeds."""
    address = ("127.0.0.1", shared_server.port)
    with socket.create_connection(address, timeout=20) as client, suppress(ConnectionError):
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 8_000_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{shared_server.url}/livez").status_code == 200


def test_connections_without_a_request_are_closed_and_idle_ones_are_kept(shared_server):
    """A connection that sends nothing, or an endless head, is closed after ten seconds.

    One that has been answered is still open then: a load balancer would otherwise send into a closing connection.
    uvicorn's own limit is five seconds.
    """
    address = ("127.0.0.1", shared_server.port)
    idle = HTTPConnection(*address, timeout=20)
    idle.request("GET", "/livez")
    assert idle.getresponse().read()
    first = idle.sock
    with (
        socket.create_connection(address, timeout=30) as silent,
        socket.create_connection(address, timeout=30) as slow,
    ):
        slow.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-")
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""
    idle.request("GET", "/livez")
    assert idle.getresponse().read()
    assert idle.sock is first
    idle.close()


def asked(connection):
    """Send a request over `connection`, and return once it is answered."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_idle_connections_do_not_use_up_the_process(narrow_server):
    """A process with room for 128 open files serves 160 clients that stay connected.

    The first ones keep their connections; from half of the files on, a connection is closed after a second of rest.
    """
    with ExitStack() as stack:

        def newcomers():
            for _ in range(40):
                client = socket.create_connection(("127.0.0.1", narrow_server.port), timeout=20)
                asked(stack.enter_context(client))
                yield client

        first = list(newcomers())
        for _ in range(3):
            *_, last = newcomers()
            assert last.recv(100) == b""
        for client in first:
            asked(client)
        assert httpx.get(f"{narrow_server.url}/livez").status_code == 200
