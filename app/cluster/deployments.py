"""The deployments of the application: doors, and the replicas of each model that has replicas of its own."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from app.cluster.door import MODEL, Door
from app.cluster.model import Model
from app.cluster.settings import ClusterSettings
from app.settings import Settings

# Ray's proxy answers text where a door has too many requests. A door refuses them as problem details long before.
_DOOR_REQUESTS = 4


def from_arguments(given: dict[str, Any]) -> Application:
    """Build the application from settings by name; those not `given` are read from the environment.

    Raises:
        ValidationError: if a setting is invalid.
        ValueError: if there is no such setting.
    """
    known = Settings.model_fields.keys() | ClusterSettings.model_fields.keys()
    if unknown := given.keys() - known:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    settings = Settings(**{name: given[name] for name in given.keys() & Settings.model_fields})
    cluster = ClusterSettings(**{name: given[name] for name in given.keys() & ClusterSettings.model_fields})
    return build(settings, cluster)


def build(settings: Settings, cluster: ClusterSettings) -> Application:
    """Build the application from settings."""
    models = dict.fromkeys((settings.model, *cluster.own_replicas))
    bound = {f"model_{number}": _model(name, settings, cluster) for number, name in enumerate(models)}
    door = serve.deployment(
        serve.ingress()(Door),
        name="door",
        num_replicas=cluster.doors,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_DOOR_REQUESTS * settings.max_concurrent_requests,
        max_queued_requests=_DOOR_REQUESTS * settings.max_concurrent_requests,
        graceful_shutdown_timeout_s=settings.shutdown_grace_s,
    )
    return door.bind(settings, **bound)


def _model(name: str, settings: Settings, cluster: ClusterSettings) -> Application:
    version = settings.model_version if name == settings.model else None
    own = settings.model_copy(update={"model": name, "model_version": version})
    scaling: dict[str, Any] = {"num_replicas": cluster.replicas}
    if cluster.max_replicas is not None:
        scaling = {
            "num_replicas": None,
            "autoscaling_config": {
                "min_replicas": cluster.replicas,
                "max_replicas": cluster.max_replicas,
                "target_ongoing_requests": max(1, cluster.replica_requests / 2),
            },
        }
    model = serve.deployment(
        Model,
        name=f"{MODEL}{name}",
        ray_actor_options={"num_cpus": cluster.replica_cpus, "num_gpus": cluster.replica_gpus},
        max_ongoing_requests=cluster.replica_requests,
        max_queued_requests=cluster.replica_queue,
        graceful_shutdown_timeout_s=settings.shutdown_grace_s,
        **scaling,
    )
    return model.bind(own, cluster)
