"""Which answer type a client wants, by its `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import mimeparse

from app.errors import NotAcceptableError

JSON = "application/json"
NPY = "application/x-npy"
DICOM = "application/dicom"


def answer_types(pictures: Sequence[str], *, dicom: bool) -> list[str]:
    """What an explanation can be answered as, the preferred one first.

    Args:
        pictures: media types of the overlay, the preferred one first.
        dicom: whether the image came as DICOM, so that its overlay can go into the same study.
    """
    return [JSON, *pictures, NPY, *([DICOM] if dicom else [])]


def best_type(accept: str | None, offered: Sequence[str]) -> str:
    """The media type among `offered` that the client likes best; the earlier one where it has no preference.

    Raises:
        NotAcceptableError: it accepts none of them; the message lists them.
    """
    if not accept or not accept.strip():
        return offered[0]
    try:
        # mimeparse prefers the last of equals.
        best = mimeparse.best_match(list(reversed(offered)), accept.lower())
    except mimeparse.MimeTypeParseException as error:
        raise NotAcceptableError(f"the Accept header can't be read: {error}") from error
    if not best:
        raise NotAcceptableError(f"no answer type that you accept can be made; there are: {', '.join(offered)}")
    return best
