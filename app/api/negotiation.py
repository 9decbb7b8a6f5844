"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import mimeparse

from app.errors import NotAcceptableError

JSON = "application/json"
HTML = "text/html"
NPY = "application/x-npy"
DICOM = "application/dicom"


def answer_types(pictures: Sequence[str], *, dicom: bool) -> list[str]:
    """Return the media types in which an explanation is available, the preferred one first.

    Args:
        pictures: the media types of the overlay, the preferred one first.
        dicom: whether the image is a DICOM object; only then can the overlay become part of its study.
    """
    return [JSON, *pictures, NPY, *([DICOM] if dicom else [])]


def best_type(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type in `offered` that the client prefers; of equal ones, the first.

    Raises:
        NotAcceptableError: if the client accepts none of them; the message lists them.
    """
    if not accept or not accept.strip():
        return offered[0]
    try:
        # mimeparse prefers the last of equal types.
        best = mimeparse.best_match(list(reversed(offered)), accept.lower())
    except mimeparse.MimeTypeParseException as error:
        raise NotAcceptableError(f"the Accept header is malformed: {error}") from error
    if not best:
        raise NotAcceptableError(f"no media type in the Accept header is available; available: {', '.join(offered)}")
    return best


def prefers_html(accept: str) -> bool:
    """Return whether a client prefers HTML to JSON; one that accepts everything, or says nothing, does not."""
    try:
        return best_type(accept, [JSON, HTML]) == HTML
    except NotAcceptableError:
        return False
