"""The interface of the models: what the routes of every protocol ask, and whoever runs the models answers.

`app.serving.local` answers in this process. Another implementation may pass the questions on to other processes; what
goes in and what comes out can therefore be pickled, and every answer names the version that it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.artifact.manifest import Manifest
from app.explain.question import Question
from app.imaging.network_input import InputImage
from app.serving.analyzer import Drawing
from app.serving.answers import Explanation, Prediction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that a request asks for: its name, by default the default model, and version, by default the served."""

    name: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of one model.

    `default` says whether it answers requests that name no model; `served` is the version that answers requests that
    name no version, or None if none is in memory. `versions` are those in the store or in memory, `loaded` those in
    memory, and `refused` maps versions that can't be loaded to the reason.
    """

    name: str
    default: bool
    served: int | None
    versions: list[int]
    loaded: list[int]
    refused: dict[int, str]
    device: str | None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The results for the images of one request, in their order. `manifest` is that of the version that gave them."""

    manifest: Manifest
    results: tuple[T, ...]

    @property
    def only(self) -> T:
        """The result of a request with one image."""
        (result,) = self.results
        return result


class Models(Protocol):
    """The models of a store, which answer questions about images.

    If the caller is cancelled, work on its images that has not started is dropped.
    """

    async def predict(
        self, choice: ModelChoice, images: Sequence[InputImage], *, frame: int | None = None
    ) -> Answer[Prediction]:
        """Predict the class probabilities of each image.

        Args:
            choice: the model to ask.
            images: image files, or pixels of the shape that the network takes.
            frame: the frame of each DICOM object, counted from 1; None if they have only one.

        Raises:
            UnknownModelError: if the store has no such model or version.
            ModelNotLoadedError: if the default model is not loaded yet.
            ModelRefusedError: if the model can't be loaded.
            QueueFullError: if whoever runs the models has too many requests.
            InputError: if one of the images can't be used; the subclass says why.
        """
        ...

    async def explain(
        self,
        choice: ModelChoice,
        images: Sequence[InputImage],
        question: Question,
        drawing: Drawing | None = None,
        *,
        frame: int | None = None,
    ) -> Answer[Explanation]:
        """Predict the class probabilities of each image and locate the evidence that `question` asks for.

        `drawing` is the overlay to draw of each, None for none; for the other arguments and the errors see `predict`.

        Raises:
            InputError: also if the question can't be answered.
        """
        ...

    async def ready(self) -> bool:
        """Return whether the default model is loaded."""
        ...

    async def states(self) -> list[ModelState]:
        """Return the state of every model in the store or in memory, sorted by name."""
        ...

    async def state(self, name: str) -> ModelState:
        """Return the state of the model `name`, known or not."""
        ...

    async def manifest(self, choice: ModelChoice) -> Manifest:
        """Return the manifest of a model, without loading the model.

        Raises:
            UnknownModelError: if the store has no such model or version.
            ModelRefusedError: if the manifest is missing or invalid.
        """
        ...
