"""The models of this process, behind the interface that the routes ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.artifact.manifest import Manifest
from app.errors import of_image
from app.explain.question import Question
from app.imaging.network_input import InputImage
from app.serving.analyzer import Analyzer, Drawing
from app.serving.answers import Explanation, Prediction
from app.serving.batching import Rendezvous
from app.serving.interface import Answer, ModelChoice, ModelState
from app.serving.registry import Registry

T = TypeVar("T")


class LocalModels:
    """Answers with the analyzers of a registry. It implements `app.serving.interface.Models`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def predict(
        self, choice: ModelChoice, images: Sequence[InputImage], *, frame: int | None = None
    ) -> Answer[Prediction]:
        return await self._ask(
            choice, images, lambda analyzer, image, together: analyzer.predict(image, frame=frame, together=together)
        )

    async def explain(
        self,
        choice: ModelChoice,
        images: Sequence[InputImage],
        question: Question,
        drawing: Drawing | None = None,
        *,
        frame: int | None = None,
    ) -> Answer[Explanation]:
        return await self._ask(
            choice,
            images,
            lambda analyzer, image, together: analyzer.explain(
                image, question, drawing, frame=frame, together=together
            ),
            check=lambda analyzer: analyzer.check(question),
        )

    async def ready(self) -> bool:
        return self._registry.ready

    async def states(self) -> list[ModelState]:
        return await self._registry.states()

    async def state(self, name: str) -> ModelState:
        return await self._registry.state(name)

    async def manifest(self, choice: ModelChoice) -> Manifest:
        return await self._registry.manifest(choice.name, choice.version)

    async def _ask(
        self,
        choice: ModelChoice,
        images: Sequence[InputImage],
        ask: Callable[[Analyzer, InputImage, Rendezvous], Awaitable[T]],
        *,
        check: Callable[[Analyzer], None] = lambda _: None,
    ) -> Answer[T]:
        """Ask one version about all images, as one batch. `check` raises what is wrong whatever the image."""

        async def ask_one(analyzer: Analyzer, index: int) -> T:
            with of_image(index, len(images)):
                return await ask(analyzer, images[index], together)

        together = Rendezvous(len(images))
        async with self._registry.lease(choice.name, choice.version) as analyzer:
            check(analyzer)
            return Answer(analyzer.manifest, await _all([ask_one(analyzer, index) for index in range(len(images))]))


async def _all(questions: Sequence[Awaitable[T]]) -> tuple[T, ...]:
    """Await all questions concurrently. The first that fails cancels the others, and its error is raised."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
