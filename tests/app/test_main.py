"""How the application is put together."""

import pytest
from starlette.testclient import TestClient

from app.errors import ArtifactNotFoundError
from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime


def test_a_store_without_the_model_is_refused_at_start(tmp_path):
    """The application does not start half."""
    with (
        pytest.raises(ArtifactNotFoundError, match="available: none"),
        TestClient(create_app(Settings(model_store=tmp_path, model="absent"))),
    ):
        pass


def test_other_origins_are_let_in_only_where_they_are_named(client):
    """CORS is off unless set."""
    origin = {"origin": "https://ward.example"}
    assert "access-control-allow-origin" not in client.get("/livez", headers=origin).headers
    with TestClient(create_app(Settings(cors_origins="https://ward.example"), BrightnessRuntime())) as other:
        assert other.get("/livez", headers=origin).headers["access-control-allow-origin"] == origin["origin"]
        foreign = other.get("/livez", headers={"origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in foreign.headers
