"""What Ray says about the replicas of each model."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from app.cluster.metrics import RayMetrics
from app.cluster.model import REFUSED
from app.errors import ModelNotLoadedError, ModelRefusedError

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_RUNNING = "RUNNING"


class Replicas:
    """The running replicas of the deployments of one application, and why others can't start.

    Args:
        application: the name of the application.
        deployments: the name of the deployment of each model that has one.
        metrics: where the running replicas are counted.
    """

    def __init__(self, application: str, deployments: Mapping[str, str], metrics: RayMetrics) -> None:
        self._application = application
        self._deployments = deployments
        self._metrics = metrics
        self._running: dict[str, int] = {}
        self._messages: dict[str, str] = {}

    async def watch(self) -> None:
        """Look every half second, forever. A door that can't reach Ray goes on with what it has seen last."""
        while True:
            try:
                await self.look()
            except (RayError, RayServeException) as error:
                log.warning("the state of the replicas is unknown: %s", error)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Ask Ray, and log what has gone wrong since the last time."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        for model, name in self._deployments.items():
            found = None if application is None else application.deployments.get(name)
            message = "" if found is None else found.message
            if message and message != self._messages.get(model):
                log.error("the replicas of %s: %s", model, refusal(message) or message)
            self._messages[model] = message
            self._running[model] = 0 if found is None else found.replica_states.get(_RUNNING, 0)
            self._metrics.replicas.labels(model).set(self._running[model])

    def running(self, model: str) -> int:
        """Return the number of replicas of `model` that can answer."""
        return self._running.get(model, 0)

    def check(self, model: str) -> None:
        """Check that a replica of `model` can answer.

        Raises:
            ModelRefusedError: if none can, because the model is refused.
            ModelNotLoadedError: if none can, because none has started yet or has taken the place of a lost one.
        """
        if self.running(model):
            return
        if reason := refusal(self._messages.get(model, "")):
            raise ModelRefusedError(reason)
        raise ModelNotLoadedError("no replica has loaded the model yet")


def refusal(message: str) -> str | None:
    """Return why a replica refused its model, from the message of a deployment; None if that is not what it says."""
    found = re.search(f"{REFUSED}(.+)", message)
    return None if found is None else REFUSED + found[1].strip()
