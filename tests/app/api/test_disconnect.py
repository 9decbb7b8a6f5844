"""A client that hangs up while its request is being worked on."""

import anyio
import anyio.lowlevel
import pytest
from starlette.requests import ClientDisconnect, Request

from app.api.disconnect import while_connected


def request(*messages):
    """A request whose connection says `messages`, then nothing any more."""
    left = list(messages)

    async def receive():
        if not left:
            await anyio.sleep_forever()
        return left.pop(0)

    return Request({"type": "http", "headers": []}, receive)


GONE = {"type": "http.disconnect"}
EMPTY = {"type": "http.request", "body": b"", "more_body": False}


def test_the_result_is_given_while_the_client_waits():
    """Whatever else is received."""

    async def work():
        await anyio.lowlevel.checkpoint()
        return 7

    assert anyio.run(while_connected, request(EMPTY), work()) == 7


def test_an_error_is_passed_on_as_it_is():
    """Not as a group of errors."""

    async def work():
        raise KeyError("x")

    with pytest.raises(KeyError):
        anyio.run(while_connected, request(), work())


def test_work_is_dropped_when_the_client_goes():
    """It is cancelled where it waits."""
    ended = []

    async def work():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(ClientDisconnect):
        anyio.run(while_connected, request(EMPTY, GONE), work())
    assert ended == [True]


def test_work_is_dropped_at_the_deadline():
    """What cancels the request cancels the work."""
    ended = []

    async def work():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def hurried():
        with anyio.move_on_after(0.01):
            await while_connected(request(), work())

    anyio.run(hurried)
    assert ended == [True]
