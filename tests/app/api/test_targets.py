"""Forms of a request that mean the same, and path prefixes."""

import asyncio
import json

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.pictures import encoded, noise

IMAGE = encoded(noise())


@pytest.fixture(scope="module")
def prefixed():
    with TestClient(create_app(Settings(root_path="/lightbox"), BrightnessRuntime())) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/models", "/models/double", "/metrics", "/", "/static/page.js", "/docs", "/openapi.json"],
)
def test_every_get_route_answers_head(client, path):
    """With the headers of GET, and no body."""
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_is_refused_where_get_is(client):
    """And an error has no body either."""
    assert client.head("/predict").status_code == 405
    assert client.head("/models/nobody").status_code == 404
    assert client.head("/models/nobody").content == b""


def test_a_trailing_slash_changes_nothing(client):
    """No redirect, which would lose the body with some clients."""
    answer = client.post("/predict/", content=IMAGE, follow_redirects=False)
    assert answer.status_code == 200
    assert client.get("/models/").json() == client.get("/models").json()


def test_head_and_slashes_are_counted_under_their_route(client):
    """As the access log and the metrics have it."""
    client.head("/models/double/")
    labels = 'method="HEAD",protocol="lightbox",route="/models/{name}",status="200"'
    assert f"lightbox_requests_total{{{labels}}} 1.0" in client.get("/metrics").text


def test_a_target_in_absolute_form_is_its_path():
    """As proxies send it; RFC 9112, section 3.2.2."""

    async def ask():
        app, sent = create_app(Settings(), BrightnessRuntime()), []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "http://example.org/models/double",
            "raw_path": b"http://example.org/models/double",
            "query_string": b"version=3",
            "headers": [(b"host", b"example.org")],
        }

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        async with app.router.lifespan_context(app):
            await app(scope, receive, send)
        return sent

    start, body = asyncio.run(ask())
    assert start["status"] == 200
    assert json.loads(body["body"])["described"] == 3


@pytest.mark.parametrize("prefix", ["", "/lightbox"])
@pytest.mark.parametrize("path", ["/livez", "/models/double", "/", "/static/page.js", "/docs", "/openapi.json"])
def test_behind_a_prefix_everything_is_found(prefixed, prefix, path):
    """Whether the proxy strips the prefix or not."""
    assert prefixed.get(f"{prefix}{path}").status_code == 200
    assert prefixed.post(f"{prefix}/predict/", content=IMAGE).status_code == 200


def test_addresses_have_the_prefix(prefixed):
    """In the documentation, in the description, and in the redirect to the page, whose own addresses are relative."""
    assert "/lightbox/openapi.json" in prefixed.get("/docs").text
    assert prefixed.get("/openapi.json").json()["servers"] == [{"url": "/lightbox"}]
    bare = prefixed.get("/lightbox", follow_redirects=False)
    assert (bare.status_code, bare.headers["location"]) == (308, "/lightbox/")


@pytest.mark.parametrize("value", ["lightbox", "/lightbox/", "/a b", "https://example.org/x"])
def test_a_prefix_that_is_no_path_is_refused(value):
    """At the start."""
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=value)
