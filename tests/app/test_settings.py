"""The settings, and where they are told."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings

README = Path(__file__).parents[2] / "README.md"


def test_settings_come_from_the_environment(monkeypatch):
    """By their names in capitals, with the prefix."""
    monkeypatch.setenv("LIGHTBOX_PORT", "9001")
    monkeypatch.setenv("LIGHTBOX_MODEL_VERSION", "4")
    settings = Settings()
    assert (settings.port, settings.model_version) == (9001, 4)


@pytest.mark.parametrize("name", ["PORT", "MAX_UPLOAD_BYTES", "REQUEST_TIMEOUT_S", "LOG_LEVEL"])
def test_nonsense_is_refused(monkeypatch, name):
    """At the start, not at the first request."""
    monkeypatch.setenv(f"LIGHTBOX_{name}", "-1")
    with pytest.raises(ValidationError):
        Settings()


def test_compose_passes_every_setting_on():
    """But for the address and the store, which are the container's own, and the port, which is the host's."""
    text = (README.parent / "docker-compose.yml").read_text(encoding="utf-8")
    for name in Settings.model_fields.keys() - {"host", "port", "model_store"}:
        assert f"- LIGHTBOX_{name.upper()}\n" in text


def test_the_readme_documents_every_setting():
    """With its default."""
    text = README.read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`LIGHTBOX_{name.upper()}`" in text
