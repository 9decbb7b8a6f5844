"""The service's settings, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "LIGHTBOX_"
# Variables that have been renamed, the old name first. The old ones are still read.
_RENAMED = {"LIGHTBOX_MAX_QUEUE": "LIGHTBOX_MAX_CONCURRENT_REQUESTS"}


def renamed_variables() -> list[tuple[str, str]]:
    """The variables of the environment that go by an old name, each with its new name."""
    return [(old, new) for old, new in _RENAMED.items() if old in os.environ]


def variable_of(location: Sequence[str | int]) -> str:
    """The environment variable of a field, by the location that a `ValidationError` gives."""
    name = "_".join(map(str, location)).upper()
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"


class Settings(BaseSettings):
    """Each field is the environment variable of its name, in capitals, with the prefix `LIGHTBOX_`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        populate_by_name=True,
    )

    model_store: Path = Path("model_store")
    """Folder that holds `<name>/<version>/` entries."""

    model: str = "cxr-vgg16"
    """Name of the model to serve."""

    model_version: int | None = Field(None, ge=1)
    """Version to serve; unset, the highest."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on."""

    max_upload_bytes: int = Field(20 * 1024 * 1024, ge=1)
    """Largest request body in bytes; a larger one is refused while it is read."""

    max_image_pixels: int = Field(64_000_000, ge=1)
    """Largest image in pixels, by its header; a larger one is refused before it is decoded."""

    max_overlay_side: int = Field(1024, ge=1, le=8192)
    """Longest side of an overlay in pixels; larger images are reduced to it."""

    max_batch_size: int = Field(8, ge=1, le=128)
    """Images in one call of the model, at most."""

    batch_window_ms: float = Field(2.0, ge=0, le=1000)
    """Milliseconds that a batch waits for images that are being decoded; a lone request never waits."""

    max_concurrent_requests: int = Field(
        64, ge=1, validation_alias=AliasChoices("LIGHTBOX_MAX_CONCURRENT_REQUESTS", "LIGHTBOX_MAX_QUEUE")
    )
    """Requests that are worked on at the same time; one more is refused with 503."""

    request_timeout_s: float = Field(30.0, gt=0)
    """Seconds from a request's first byte after which it is answered with 504."""

    faithfulness_steps: int = Field(4, ge=2, le=32)
    """Points of a deletion or insertion curve after its first."""

    faithfulness_maps: int = Field(19, ge=0, le=199)
    """Random maps that a heatmap is compared with; 0: its faithfulness is not judged."""

    shutdown_grace_s: int = Field(30, ge=0)
    """Seconds that requests have to finish when the service is told to stop."""

    shutdown_delay_s: float = Field(0.0, ge=0)
    """Seconds between being told to stop, when `/readyz` turns to 503, and closing the port."""

    poll_interval_s: float = Field(2.0, ge=0)
    """Seconds between two looks at the model store for new, changed and removed versions; 0: never."""

    preload: bool = False
    """Load every model of the store at start; otherwise each when it is first asked for."""

    max_models: int = Field(4, ge=1)
    """Versions in memory at once; the one that was unused for longest makes room."""

    intra_op_threads: int | None = Field(None, ge=1)
    """Threads that share one operation of the model; unset, the cores that this process may use."""

    inter_op_threads: int | None = Field(None, ge=1)
    """Operations of the model that run at once; unset, 1: a CNN is a chain."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys, separated by commas, of which a request must carry one; unset, none is asked for."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, separated by commas, whose pages may use the service from a browser; `*` for all."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """`json`: one object a line; `text`: for people; `auto`: text on a terminal, otherwise json."""

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
