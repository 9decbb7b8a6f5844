"""Authentication by API key."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from app.errors import CredentialsError
from app.settings import Settings

# FastAPI's schemes only read the headers and describe them in OpenAPI. `check_key` compares the keys, so that an
# invalid one gets problem details like every other error.
_BEARER = HTTPBearer(auto_error=False, description="One of the keys of LIGHTBOX_API_KEYS")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="One of the keys of LIGHTBOX_API_KEYS")


def authenticate(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    header: Annotated[str | None, Security(_HEADER)],
) -> None:
    """Check that the request has a valid API key; if the service has no keys, every request passes.

    Raises:
        CredentialsError: if the key is missing or invalid.
    """
    settings: Settings = request.app.state.settings
    check_key(bearer.credentials.strip() if bearer else header or "", settings.api_keys)


def check_key(given: str, keys: Sequence[SecretStr]) -> None:
    """Check that `given` is one of `keys`; if there are none, every key passes.

    The function compares every key, each in constant time, so that its running time tells nothing about them.

    Raises:
        CredentialsError: if `given` is not one of `keys`.
    """
    if not keys:
        return
    sent = given.encode("latin-1")  # the bytes of the header, which ASGI servers decode as Latin-1
    matches = [hmac.compare_digest(sent, key.get_secret_value().encode()) for key in keys]
    if not any(matches):
        reason = "the API key is invalid" if given else "an API key is required"
        raise CredentialsError(f"{reason}; send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'")
