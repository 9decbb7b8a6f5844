"""The service's settings, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "LIGHTBOX_"
# Renamed variables, old name to new name. The old names are still read.
_RENAMED = {"LIGHTBOX_MAX_QUEUE": "LIGHTBOX_MAX_CONCURRENT_REQUESTS"}


def renamed_variables() -> list[tuple[str, str]]:
    """Return the deprecated variables that the environment sets, each with its new name."""
    return [(old, new) for old, new in _RENAMED.items() if old in os.environ]


def variable_of(location: Sequence[str | int]) -> str:
    """Return the environment variable that a location in a `ValidationError` stands for."""
    name = "_".join(map(str, location)).upper()
    return name if name.startswith(_PREFIX) else f"{_PREFIX}{name}"


def faults_of(error: ValidationError) -> str:
    """Describe the faults of settings in one line, each with its environment variable."""
    return "; ".join(f"{variable_of(fault['loc'])}: {fault['msg']}" for fault in error.errors())


class Settings(BaseSettings):
    """The settings. Each is read from the environment variable of its name in capitals, prefixed `LIGHTBOX_`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        populate_by_name=True,
    )

    model_store: Path = Path("model_store")
    """Folder of the model store, which contains `<name>/<version>/` entries."""

    model: str = "cxr-vgg16"
    """Name of the default model, which answers requests that name no model."""

    model_version: int | None = Field(None, ge=1)
    """Version of the default model; if unset, the highest."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all interfaces."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on."""

    grpc_port: int | None = Field(None, ge=1, le=65535)
    """Port for the Open Inference Protocol over gRPC, which needs the extra `grpc`; if unset, it is not served."""

    root_path: str = Field("", pattern=r"^(/[^/\s?#]+)*$")
    """Path prefix under which a reverse proxy serves it, such as `/lightbox`; the proxy may strip it or not."""

    max_upload_bytes: int = Field(20 * 1024 * 1024, ge=1)
    """Largest request body, in bytes; a larger one gets 413 before it is read to its end."""

    max_image_pixels: int = Field(64_000_000, ge=1)
    """Largest image, in pixels; a larger one gets 413 before it is decoded."""

    max_overlay_side: int = Field(1024, ge=1, le=8192)
    """Longest side of an overlay, in pixels; larger images are downscaled to it."""

    max_batch_size: int = Field(8, ge=1, le=128)
    """Largest number of images in one model call."""

    max_images: int = Field(32, ge=1, le=1024)
    """Largest number of images in one request of an inference protocol; they are one batch for the model's queue."""

    batch_window_ms: float = Field(2.0, ge=0, le=1000)
    """Milliseconds that a batch waits for images that are still being decoded; a lone request never waits."""

    max_concurrent_requests: int = Field(
        64, ge=1, validation_alias=AliasChoices("LIGHTBOX_MAX_CONCURRENT_REQUESTS", "LIGHTBOX_MAX_QUEUE")
    )
    """Largest number of concurrent requests; requests beyond it get 503."""

    request_timeout_s: float = Field(30.0, gt=0)
    """Seconds from a request's first byte after which it gets 504."""

    faithfulness_steps: int = Field(4, ge=2, le=32)
    """Number of points on a deletion or insertion curve, not counting the first."""

    faithfulness_maps: int = Field(19, ge=0, le=199)
    """Number of random maps to compare a heatmap with; 0 turns off the judgement of faithfulness."""

    shutdown_grace_s: int = Field(30, ge=0)
    """Seconds that open requests have to finish once the port is closed."""

    shutdown_delay_s: float = Field(0.0, ge=0)
    """Seconds between the signal to stop, from which on `/readyz` returns 503, and closing the port."""

    poll_interval_s: float = Field(2.0, ge=0)
    """Seconds between checks of the model store for new, changed and removed versions; 0 turns them off."""

    preload: bool = False
    """Load every model of the store at startup instead of on its first request."""

    max_models: int = Field(4, ge=1)
    """Largest number of versions in memory; the least recently used one is evicted."""

    intra_op_threads: int | None = Field(None, ge=1)
    """Threads that share one operation of the model; if unset, the number of available cores."""

    inter_op_threads: int | None = Field(None, ge=1)
    """Operations of the model that run concurrently; if unset, 1, because a CNN is a chain."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Valid API keys, separated by commas; if unset, requests need no key."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may use the service from a browser, separated by commas; `*` for all."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """`json` for one object per line, `text` for people, `auto` for text on a terminal and JSON elsewhere."""

    @field_validator("api_keys", "cors_origins", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
