"""The web page: static files, and what a browser is told about them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

# Nothing from other origins, nothing inline, no string turned into markup, no frame around it.
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
    "Cache-Control": "no-cache",  # browsers keep it, but ask each time: the ETag makes the answer a 304
}


class PageFiles(StaticFiles):
    """The files of the page and the overlay's colour tables, each with the page's policy."""

    def __init__(self) -> None:
        super().__init__(packages=[("app.api", "static"), ("app.imaging", "colormaps")])

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at `path`, or 304 for a browser that has it.

        Raises:
            HTTPException: 404 where there is no such file.
        """
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


_files = PageFiles()
page_router = APIRouter(include_in_schema=False)


@page_router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """The web page."""
    return await _files.get_response("index.html", request.scope)


@page_router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    """A file of the web page."""
    return await _files.get_response(name, request.scope)
