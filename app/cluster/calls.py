"""What a door sends to a replica."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Method = Literal["predict", "explain", "states", "state", "manifest"]


@dataclass(frozen=True, slots=True)
class Call:
    """A question to `app.serving.interface.Models`: the `method` with its arguments, and the request that asks it.

    `trace` carries the W3C trace context of the request, empty if tracing is off.
    """

    method: Method
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    request_id: str = "-"
    trace: dict[str, str] = field(default_factory=dict)
