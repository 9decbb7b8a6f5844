"""API keys."""

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.pictures import encoded, noise

KEYS = (SecretStr("first"), SecretStr("zweiter-schlüssel"))


@pytest.fixture(scope="module")
def guarded():
    with TestClient(create_app(Settings(api_keys=KEYS), BrightnessRuntime())) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first"},
        {"authorization": "bearer  zweiter-schlüssel".encode()},
        {"x-api-key": "first"},
    ],
)
def test_any_of_the_keys_opens(guarded, headers):
    """In either header; a key may have any characters."""
    assert guarded.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "is required"),
        ({"authorization": "Basic first"}, "is required"),
        ({"authorization": "Bearer second"}, "is invalid"),
        ({"x-api-key": "firs"}, "is invalid"),
        ({"x-api-key": "first,zweiter-schlüssel".encode()}, "is invalid"),
    ],
)
def test_anything_else_does_not(guarded, headers, reason):
    """The answer is a problem document that doesn't repeat what was sent."""
    answer = guarded.get("/models", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert reason in answer.json()["detail"]
    assert "second" not in answer.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/"])
def test_health_and_the_page_need_no_key(guarded, path):
    """Orchestrators have none, and the page asks for one."""
    assert guarded.get(path).status_code == 200


def test_without_keys_everyone_may_pass(client):
    """As it is out of the box, whatever a client sends."""
    assert client.get("/models", headers={"x-api-key": "anything"}).status_code == 200


def test_the_description_has_both_schemes(client, guarded):
    """They give `/docs` its Authorize button; only a service with keys requires one of them."""
    for service, alternatives in ((guarded, 2), (client, 3)):
        schema = service.get("/openapi.json").json()
        schemes = schema["components"]["securitySchemes"].values()
        assert {(one["type"], one.get("scheme") or one.get("name")) for one in schemes} == {
            ("http", "bearer"),
            ("apiKey", "X-API-Key"),
        }
        security = schema["paths"]["/explain"]["post"]["security"]
        assert len(security) == alternatives
        assert ({} in security) is (alternatives == 3)
        assert "security" not in schema["paths"]["/livez"]["get"]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/models", "/models/double", "/metrics"])
def test_where_keys_are_set_one_is_needed(path):
    """Without one, the answer is 401 before anything else is checked. Keys are separated by commas."""
    with TestClient(create_app(Settings(api_keys="first, second"), BrightnessRuntime())) as client:
        method, body = ("POST", encoded(noise())) if path in ("/predict", "/explain") else ("GET", None)
        for headers in ({}, {"x-api-key": "third"}):
            answer = client.request(method, path, headers=headers, content=body)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "third" not in answer.text
        for headers in ({"x-api-key": "second"}, {"authorization": "Bearer first"}):
            assert client.request(method, path, headers=headers, content=body).status_code == 200


def test_keys_are_not_shown_by_the_settings():
    """Printing or logging the settings does not reveal them."""
    settings = Settings(api_keys=KEYS)
    assert "first" not in repr(settings)
    assert "first" not in str(settings.model_dump())
