"""The service's settings, read from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is the environment variable of its name, in capitals, with the prefix `LIGHTBOX_`."""

    model_config = SettingsConfigDict(
        env_prefix="LIGHTBOX_", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
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

    max_queue: int = Field(64, ge=1)
    """Requests that are answered at once; one more is refused with 503."""

    request_timeout_s: float = Field(30.0, gt=0)
    """Seconds from a request's first byte after which it is answered with 504."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
