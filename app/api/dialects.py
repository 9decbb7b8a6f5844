"""The protocol of a request, by its path: Lightbox's own, or one of the protocols for inference."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Literal

Dialect = Literal["lightbox", "v1", "v2", "grpc"]

_V1 = re.compile(r"/v1(/|$)")
_V2 = re.compile(r"/v2(/|$)")


def dialect_of(scope: MutableMapping[str, Any]) -> Dialect:
    """Return the protocol of an HTTP request, also where no route matches: the same client reads that error."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if _V1.match(path):
        return "v1"
    return "v2" if _V2.match(path) else "lightbox"
