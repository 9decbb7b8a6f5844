"""API keys."""

import pytest
from pydantic import SecretStr

from app.api.auth import check_key
from app.errors import CredentialsError

KEYS = (SecretStr("first"), SecretStr("zweiter-schlüssel"))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first"},
        {"authorization": "bearer  zweiter-schlüssel"},
        {"x-api-key": "first"},
    ],
)
def test_any_of_the_keys_opens(headers):
    """In either header."""
    check_key(headers, KEYS)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "is needed"),
        ({"authorization": "Basic first"}, "is needed"),
        ({"authorization": "Bearer second"}, "is not known"),
        ({"x-api-key": "firs"}, "is not known"),
        ({"x-api-key": "first,zweiter-schlüssel"}, "is not known"),
    ],
)
def test_anything_else_does_not(headers, reason):
    """And what was sent is not repeated."""
    with pytest.raises(CredentialsError, match=reason) as refusal:
        check_key(headers, KEYS)
    assert "second" not in str(refusal.value)


def test_without_keys_everyone_may_pass():
    """As it is out of the box."""
    check_key({}, ())
