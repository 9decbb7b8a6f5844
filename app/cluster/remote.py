"""The models of other processes, asked through the handles of Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from app.artifact.manifest import Manifest
from app.cluster.calls import Call, Method
from app.cluster.metrics import RayMetrics
from app.cluster.replicas import Replicas
from app.errors import LightboxError, ModelNotLoadedError, QueueFullError
from app.explain.question import Question
from app.imaging.network_input import InputImage
from app.serving.analyzer import Drawing
from app.serving.answers import Explanation, Prediction
from app.serving.interface import Answer, ModelChoice, ModelState
from app.telemetry.logs import request_id

# Each loss of a replica in a row costs a question one attempt. The deadline of the request ends them as well.
ATTEMPTS = 5


class RemoteModels:
    """Asks replicas. It implements `app.serving.interface.Models`.

    To predict and to explain change nothing, so a question whose replica is lost is asked again.

    Args:
        handles: the handle of each model that has replicas of its own; those of `default` answer about all others.
        default: the default model.
        replicas: what is known about the replicas.
        metrics: where rejections and repeated questions are counted.
    """

    def __init__(
        self, handles: Mapping[str, DeploymentHandle], default: str, replicas: Replicas, metrics: RayMetrics
    ) -> None:
        self._handles = handles
        self._default = default
        self._replicas = replicas
        self._metrics = metrics

    async def predict(
        self, choice: ModelChoice, images: Sequence[InputImage], *, frame: int | None = None
    ) -> Answer[Prediction]:
        return await self._ask(choice.name, "predict", choice, images, frame=frame)

    async def explain(
        self,
        choice: ModelChoice,
        images: Sequence[InputImage],
        question: Question,
        drawing: Drawing | None = None,
        *,
        frame: int | None = None,
    ) -> Answer[Explanation]:
        return await self._ask(choice.name, "explain", choice, images, question, drawing, frame=frame)

    async def ready(self) -> bool:
        return self._replicas.running(self._default) > 0

    async def states(self) -> list[ModelState]:
        """Return what one replica says about all models, and about each model what one of its own replicas says."""
        found = {state.name: state for state in await self._ask(None, "states")}
        for name in self._handles:
            if name != self._default:
                found[name] = await self.state(name)
        return [found[name] for name in sorted(found)]

    async def state(self, name: str) -> ModelState:
        return replace(await self._ask(name, "state", name), default=name == self._default)

    async def manifest(self, choice: ModelChoice) -> Manifest:
        return await self._ask(choice.name, "manifest", choice)

    async def _ask(self, model: str | None, method: Method, *arguments: Any, **keywords: Any) -> Any:
        """Ask a replica of `model`, by default of the default model.

        Raises:
            LightboxError: what the replica has raised, or a `ModelNotLoadedError` if there is none.
            QueueFullError: if all replicas are busy.
        """
        owner = self._default if model is None or model not in self._handles else model
        call = Call(method, arguments, keywords, request_id.get(), _trace())
        for _ in range(ATTEMPTS):
            self._replicas.check(owner)
            try:
                answer = await self._response(self._handles[owner], call)
            except (RayActorError, ReplicaUnavailableError):
                self._metrics.retries.inc()
                continue
            if isinstance(answer, LightboxError):
                raise answer
            return answer
        raise ModelNotLoadedError(f"{ATTEMPTS} replicas were lost one after the other; try again later")

    async def _response(self, handle: DeploymentHandle, call: Call) -> Any:
        response = handle.ask.remote(call)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()  # Ray would let the replica work on
            raise
        except BackPressureError as error:
            self._metrics.rejections.labels("queue_full").inc()
            raise QueueFullError("all replicas are busy; try again later") from error
        except DeploymentUnavailableError as error:
            raise ModelNotLoadedError("the replicas of the model can't be started; see the log") from error


def _trace() -> dict[str, str]:
    """Return the W3C trace context of the current span, to be continued elsewhere."""
    try:
        from opentelemetry.propagate import inject  # noqa: PLC0415  # optional
    except ImportError:
        return {}
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier
