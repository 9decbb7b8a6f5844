"""Which answer type a client gets."""

import pytest

from app.errors import NotAcceptableError
from app.negotiation import best_type

OFFERED = ["application/json", "image/png", "image/jpeg", "image/webp"]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("image/webp", "image/webp"),
        ("image/jpeg, application/json;q=0.5", "image/jpeg"),
        ("application/json;q=0.2, image/jpeg;q=0.1", "application/json"),
        ("application/json;q=0, */*", "image/png"),
        (BROWSER, "image/webp"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_the_client_decides(accept, expected):
    """By its preferences; where it has none, JSON."""
    assert best_type(accept, OFFERED) == expected


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "application/json;q=0", "garbage", "/", "image/png;q=0"])
def test_what_can_not_be_made_is_refused_with_what_can(accept):
    """406 in the making."""
    with pytest.raises(NotAcceptableError):
        best_type(accept, OFFERED)
