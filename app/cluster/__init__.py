"""The service on Ray Serve: light doors that speak HTTP, and replicas that run the models. Needs the extra `ray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application


def application(arguments: dict[str, Any] | None = None) -> Application:
    """Build the application, for `serve run app.cluster:application`.

    Args:
        arguments: settings by name, such as `{"replicas": 4}`; those not given are read from the environment.

    Raises:
        ValidationError: if a setting is invalid.
        ValueError: if there is no such setting.
    """
    # Ray reads the environment when it is imported, and `app.cluster.__main__` sets it after this package is.
    from app.cluster.deployments import from_arguments  # noqa: PLC0415

    return from_arguments(arguments or {})
