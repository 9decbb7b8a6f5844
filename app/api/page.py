"""The web page: its static files and their security headers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.api.negotiation import prefers_html

# Forbids other origins, inline code, markup from strings and frames.
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
    "Cache-Control": "no-cache",  # browsers revalidate each time, and the ETag makes the response a 304
}


class PageFiles(StaticFiles):
    """The files of the page and the colormaps of the overlay, with the security headers of the page."""

    def __init__(self) -> None:
        super().__init__(packages=[("app.api", "static"), ("app.imaging", "colormaps")])

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at `path`, or 304 if the browser has it.

        Raises:
            HTTPException: 404 if there is no such file.
        """
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


_files = PageFiles()
page_router = APIRouter(include_in_schema=False)


@page_router.api_route("/", methods=["GET", "HEAD"])
async def index(request: Request) -> Response:
    """Return the web page to who asks for HTML. KServe's V1 clients ask here whether the server is alive, for JSON."""
    if prefers_html(", ".join(request.headers.getlist("accept"))):
        response = await _files.get_response("index.html", request.scope)
    else:
        response = JSONResponse({"status": "alive"})
    response.headers["Vary"] = "Accept"
    return response


@page_router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    """Return a file of the web page."""
    return await _files.get_response(name, request.scope)
