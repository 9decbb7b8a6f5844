"""API keys: who may use the service."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from app.errors import CredentialsError
from app.settings import Settings

# They only read the headers and describe them to OpenAPI: which key is right is decided here, and the answer to a wrong
# one is a problem document like every other error.
_BEARER = HTTPBearer(auto_error=False, description="One of the keys of LIGHTBOX_API_KEYS")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="One of the keys of LIGHTBOX_API_KEYS")


def authenticate(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    header: Annotated[str | None, Security(_HEADER)],
) -> None:
    """Let a request pass that carries one of the service's keys; every request, where the service has none.

    Raises:
        CredentialsError: it carries no key, or another one.
    """
    settings: Settings = request.app.state.settings
    check_key(bearer.credentials.strip() if bearer else header or "", settings.api_keys)


def check_key(given: str, keys: Sequence[SecretStr]) -> None:
    """Accept `given` if it is one of `keys`, or if there are none.

    Every key is compared, each in constant time, so that the time taken tells nothing about them.

    Raises:
        CredentialsError: it is not.
    """
    if not keys:
        return
    sent = given.encode("latin-1")  # the header's bytes, as ASGI servers decode them
    matches = [hmac.compare_digest(sent, key.get_secret_value().encode()) for key in keys]
    if not any(matches):
        reason = "the API key is not known" if given else "an API key is needed"
        raise CredentialsError(f"{reason}; send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'")
