"""The running service: what the lifespan makes, and what every request uses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.artifact.runtimes.base import Runtime
from app.errors import ArtifactError
from app.serving.admission import Admission
from app.serving.analyzer import Analyzer, Limits
from app.serving.registry import Registry
from app.serving.workers import Workers
from app.settings import Settings
from app.telemetry.cores import available_cores
from app.telemetry.stages import Telemetry

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Service:
    """What every request uses; `stopping` once the process has been told to."""

    admission: Admission
    registry: Registry
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
) -> AsyncIterator[Service]:
    """A service with its default model loaded; or, where `on_refusal` is given, with it being loaded.

    Raises:
        ArtifactError: the default model is refused.
    """
    with Workers(available_cores()) as workers:

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
        keeping = asyncio.create_task(_keep(registry, settings, on_refusal))
        try:
            yield Service(admission, registry, workers, telemetry)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
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


async def _keep(registry: Registry, settings: Settings, on_refusal: Callable[[ArtifactError], None] | None) -> None:
    """Load what is to be loaded, then keep in step with the store."""
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
