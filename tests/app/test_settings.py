"""The settings: how they are read, and that the documentation and Compose name all of them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.cluster.settings import ClusterSettings
from app.main import create_app
from app.settings import Settings, renamed_variables

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(LIGHTBOX_[A-Z_]+)` \| (`[^`]+`|unset) \| ", re.MULTILINE)


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


def test_a_renamed_variable_is_still_read(monkeypatch, caplog):
    """The log warns about the old name and gives the new one, which wins where both are set."""
    monkeypatch.setenv("LIGHTBOX_MAX_QUEUE", "3")
    assert Settings().max_concurrent_requests == 3
    assert renamed_variables() == [("LIGHTBOX_MAX_QUEUE", "LIGHTBOX_MAX_CONCURRENT_REQUESTS")]
    create_app()
    assert "LIGHTBOX_MAX_QUEUE has been renamed; set LIGHTBOX_MAX_CONCURRENT_REQUESTS instead" in caplog.text
    monkeypatch.setenv("LIGHTBOX_MAX_CONCURRENT_REQUESTS", "5")
    assert Settings().max_concurrent_requests == 5


def test_compose_passes_every_setting_on():
    """Except the address and the store, which are the container's own, and the port, which is the host's."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in Settings.model_fields.keys() - {"host", "port", "model_store"}:
        assert f"- LIGHTBOX_{name.upper()}\n" in text


def shown(default):
    """A default as the documentation's table shows it: the variable's value, or `unset` where there is none."""
    if default in (None, (), ""):
        return "unset"
    value = str(default).lower() if isinstance(default, bool) else default
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_the_documentation_lists_every_setting_with_its_default():
    """Each once, and no others."""
    rows = ROW.findall((ROOT / "docs" / "settings.md").read_text(encoding="utf-8"))
    known = {**Settings.model_fields, **ClusterSettings.model_fields}
    fields = {f"LIGHTBOX_{name.upper()}": shown(field.default) for name, field in known.items()}
    assert sorted(rows) == sorted(fields.items())
