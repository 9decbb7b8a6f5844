"""The settings of the service on Ray, beside those of `app.settings`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ClusterSettings(BaseSettings):
    """The settings. Each is read from the environment variable of its name in capitals, prefixed `LIGHTBOX_`."""

    model_config = SettingsConfigDict(
        env_prefix="LIGHTBOX_", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    replicas: int = Field(2, ge=1)
    """Replicas of each model; with `LIGHTBOX_MAX_REPLICAS`, the smallest number of them."""

    max_replicas: int | None = Field(None, ge=1)
    """Largest number of replicas of each model, to which Ray scales by ongoing requests; if unset, it doesn't."""

    replica_cpus: float = Field(1.0, gt=0)
    """CPUs that Ray reserves for a replica, and, rounded up, its threads; a fraction shares one."""

    replica_gpus: float = Field(0.0, ge=0)
    """GPUs that Ray reserves for a replica; a fraction shares one."""

    replica_requests: int = Field(16, ge=1)
    """Largest number of requests that a replica works on at the same time; at half of it, Ray adds a replica."""

    replica_queue: int = Field(32, ge=1)
    """Largest number of requests that a door holds back while all replicas are busy; requests beyond it get 503."""

    doors: int = Field(1, ge=1)
    """Replicas of the door, which speaks HTTP and runs no model."""

    own_replicas: Annotated[tuple[str, ...], NoDecode] = ()
    """Models besides the default one that get replicas of their own, separated by commas."""

    dashboard: bool = False
    """Start Ray's dashboard, on the loopback interface."""

    ray_metrics_port: int = Field(0, ge=0, le=65535)
    """Port on which Ray exports the metrics of all replicas; 0 for one that Ray chooses."""

    @field_validator("own_replicas", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("LIGHTBOX_MAX_REPLICAS is less than LIGHTBOX_REPLICAS")
        return self
