"""The web page: its files, and what a browser is told about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePath
from types import MappingProxyType

from app.imaging import overlay

INDEX = "index.html"
COLORMAPS = "colormaps.json"

# Nothing from elsewhere, nothing inline, no string turned into markup, no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked about each time: the ETag makes that a 304
}
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page as an HTTP answer."""

    body: bytes
    media_type: str
    headers: Mapping[str, str]

    def matches(self, if_none_match: str) -> bool:
        """Whether a client that sends this `If-None-Match` has the file already (RFC 9110, section 13.1.2)."""
        known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return not known.isdisjoint({"*", self.headers["ETag"]})


def asset(name: str) -> Asset | None:
    """The file `name` of the page, or None where it has no such file; names are looked up, never joined to a path."""
    return _assets().get(name)


@cache
def _assets() -> Mapping[str, Asset]:
    files = {
        file.name: file.read_bytes() for file in (resources.files("app.api") / "static").iterdir() if file.is_file()
    }
    served = {name: body for name, body in files.items() if PurePath(name).suffix in _MEDIA_TYPES}
    return MappingProxyType({name: _asset(name, body) for name, body in {**served, COLORMAPS: _colormaps()}.items()})


def _asset(name: str, body: bytes) -> Asset:
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    return Asset(body, _MEDIA_TYPES[PurePath(name).suffix], MappingProxyType(headers))


def _colormaps() -> bytes:
    """The overlay's own colours, so that the page can't have others: name -> 256 colours, RGB in 0..255."""
    tables = {name: overlay.colours(name).round(3).tolist() for name in overlay.COLORMAPS}
    return json.dumps(tables, separators=(",", ":")).encode()
