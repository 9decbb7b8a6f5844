"""Routes of the protocols that Lightbox does not have, which answer so that a client shows why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter

from app.errors import UnsupportedFeatureError


def refuse_features(router: APIRouter, features: Mapping[str, str]) -> None:
    """Add routes that refuse every request; `features` maps the template of a path to the name of its feature."""
    for path, feature in features.items():
        router.add_api_route(path, _refusal(feature), methods=["GET", "POST"])


def _refusal(feature: str) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise UnsupportedFeatureError(f"Lightbox does not support {feature}")

    return refuse
