"""API keys: who may ask."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from app.errors import CredentialsError


def check_key(headers: Mapping[str, str], keys: Sequence[SecretStr]) -> None:
    """Let a request pass that carries one of `keys`, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.

    Every key is compared, each in constant time, so that the time taken tells nothing about them. Without keys
    everyone may pass.

    Raises:
        CredentialsError: it carries none, or another.
    """
    if not keys:
        return
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    matches = [hmac.compare_digest(given.encode(), key.get_secret_value().encode()) for key in keys]
    if not any(matches):
        said = "the API key is not known" if given else "an API key is needed"
        raise CredentialsError(f"{said}; send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'")
