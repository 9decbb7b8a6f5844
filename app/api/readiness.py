"""Whether the service, or one of its models, answers requests."""

from __future__ import annotations

from app.errors import ModelNotLoadedError, ModelRefusedError
from app.serving.interface import ModelChoice, ModelState
from app.serving.service import Service


async def check_ready(service: Service) -> None:
    """Check that the default model is loaded and warmed up, and the service is not stopping.

    Raises:
        ModelNotLoadedError: if not.
    """
    if not await service.models.ready():
        raise ModelNotLoadedError("the model is not loaded yet")
    if service.stopping:
        raise ModelNotLoadedError("the service is stopping")


async def check_model_ready(service: Service, choice: ModelChoice) -> ModelState:
    """Check that a request for a model will be answered, and return the state of the model.

    A model that is in the store and not in memory is ready: the first request loads it. Only the default model is
    loaded without a request.

    Raises:
        UnknownModelError: if the store has no such model or version.
        ModelNotLoadedError: if it is the default model, and is not loaded yet, or if the service is stopping.
        ModelRefusedError: if it can't be loaded.
    """
    manifest = await service.models.manifest(choice)
    state = await service.models.state(manifest.name)
    if service.stopping:
        raise ModelNotLoadedError("the service is stopping")
    if choice.version is None:
        if state.default and state.served is None:
            raise ModelNotLoadedError("the model is not loaded yet")
        loadable = state.served is not None or any(version not in state.refused for version in state.versions)
    else:
        loadable = choice.version in state.loaded or choice.version not in state.refused
    if not loadable:
        raise ModelRefusedError(f"the model {manifest.name!r} is refused; GET /models says why")
    return state
