"""Only what a client wants is made, and nothing for a client that has hung up."""

import asyncio

import pytest

from app.main import create_app
from app.settings import Settings
from tests.dicoms import dicom
from tests.doubles import BrightnessRuntime
from tests.pictures import constant, encoded, noise

IMAGE = encoded(constant(255))


def test_the_overlay_can_be_left_out(client):
    """For clients that draw for themselves; all else is the same."""
    whole = client.post("/explain", content=IMAGE).json()
    part = client.post("/explain?overlay=false", content=IMAGE).json()
    assert part["explanation"]["overlay"] is None
    assert whole["explanation"].pop("overlay")["width"] == 60
    part["explanation"].pop("overlay")
    assert part | {"id": ""} == whole | {"id": ""}


@pytest.mark.parametrize("accept", ["image/png", "application/dicom"])
def test_a_picture_and_no_picture_can_not_both_be_had(client, accept):
    """The refusal lists what can be."""
    answer = client.post("/explain?overlay=false", content=dicom(noise()), headers={"accept": accept})
    assert answer.status_code == 406
    assert "application/json, application/x-npy" in answer.json()["detail"]


@pytest.mark.parametrize("query", ["overlay=false", "overlay=true"])
def test_the_heatmap_as_numbers_needs_no_overlay(client, query):
    """A style that there isn't is refused nevertheless: it is a mistake."""
    accept = {"accept": "application/x-npy"}
    assert client.post(f"/explain?{query}", content=IMAGE, headers=accept).status_code == 200
    assert client.post(f"/explain?{query}&colormap=rainbow", content=IMAGE, headers=accept).status_code == 422


class SignallingRuntime(BrightnessRuntime):
    """Calls `computed` once the model has done its part."""

    def evidence(self, images, targets):
        evidence = super().evidence(images, targets)
        self.computed()
        return evidence


@pytest.mark.parametrize("accept", ["application/dicom", "application/json", "image/png"])
def test_an_answer_is_dropped_when_its_client_hangs_up(accept):
    """Also one whose evidence is there: the picture takes longer than the news that its client has gone."""
    body = dicom(noise(1000, 1000))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/explain",
        "query_string": b"",
        "headers": [(b"accept", accept.encode())],
    }

    async def hang_up():
        runtime, hung_up, sent = SignallingRuntime(), asyncio.Event(), []
        loop = asyncio.get_running_loop()
        runtime.computed = lambda: loop.call_soon_threadsafe(hung_up.set)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        app = create_app(Settings(), runtime)
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        return sent

    assert asyncio.run(hang_up()) == []
