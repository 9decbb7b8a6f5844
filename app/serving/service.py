"""The running service: the state that all requests share, and its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.artifact.runtimes.base import Runtime
from app.errors import ArtifactError
from app.serving.admission import Admission
from app.serving.analyzer import Analyzer, Limits
from app.serving.interface import Models
from app.serving.local import LocalModels
from app.serving.registry import Registry
from app.serving.workers import Workers
from app.settings import Settings
from app.telemetry.cores import available_cores
from app.telemetry.stages import Telemetry


@dataclass(slots=True, eq=False)
class Service:
    """The state that all requests share; `stopping` is true once the process is shutting down."""

    admission: Admission
    models: Models
    workers: Workers
    telemetry: Telemetry
    stopping: bool = False


@asynccontextmanager
async def run_service(
    settings: Settings,
    telemetry: Telemetry,
    runtime: Runtime | None,
    load: Callable[[Path], Runtime],
    on_refusal: Callable[[ArtifactError], None] | None,
    cores: int | None = None,
) -> AsyncIterator[Service]:
    """Run the service during the block.

    Args:
        settings: the settings.
        telemetry: metrics and tracer.
        runtime: a loaded model to serve as the default model; None to load it from the store.
        load: returns the runtime of a version folder, or raises `ArtifactError`.
        on_refusal: called if the default model is refused. With it, the block starts before the model is loaded.
        cores: the number of cores for images and responses; by default, all that this process may use.

    Raises:
        ArtifactError: if the default model is refused and `on_refusal` is None.
    """
    with Workers(cores or available_cores()) as workers:

        def analyzer(loaded: Runtime) -> Analyzer:
            return Analyzer(loaded, workers, telemetry, _limits(settings))

        registry = Registry(
            settings.model_store,
            settings.model,
            settings.model_version,
            workers=workers,
            load=load,
            analyzer=analyzer,
            limit=settings.max_models,
            metrics=telemetry.metrics,
        )
        admission = Admission(settings.max_concurrent_requests, settings.request_timeout_s, telemetry.metrics)
        if runtime is not None:
            registry.adopt(runtime)
        elif on_refusal is None:
            await registry.start()
        background = asyncio.create_task(_load_and_watch(registry, settings, on_refusal))
        try:
            yield Service(admission, LocalModels(registry), workers, telemetry)
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            registry.close()


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_pixels=settings.max_image_pixels,
        max_overlay_side=settings.max_overlay_side,
        max_batch_size=settings.max_batch_size,
        batch_window_s=settings.batch_window_ms / 1000,
        faithfulness_steps=settings.faithfulness_steps,
        faithfulness_maps=settings.faithfulness_maps,
    )


async def _load_and_watch(
    registry: Registry, settings: Settings, on_refusal: Callable[[ArtifactError], None] | None
) -> None:
    """Load the models that are not loaded yet, then watch the store."""
    if not registry.ready and on_refusal is not None:
        try:
            await registry.start()
        except ArtifactError as error:
            on_refusal(error)
            return
    if settings.preload:
        await registry.load_all()
    if settings.poll_interval_s:
        await registry.watch(settings.poll_interval_s)
