"""What the pages share: how they write figures, and embed pictures."""

from __future__ import annotations

import base64
from typing import Any

from PIL import Image

from app.imaging.encoders import encode_picture


def percent(value: float | None) -> str:
    """Write a share as a percentage, or a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(figure: dict[str, Any]) -> str:
    """Write a proportion with its interval as percentages."""
    if figure["value"] is None:
        return "–"
    return f"{percent(figure['value'])} ({percent(figure['low'])} to {percent(figure['high'])})"


def area(figure: dict[str, Any]) -> str:
    """Write an area under a curve with its interval."""
    return "–" if figure["value"] is None else f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


FILTERS = {"percent": percent, "interval": interval, "area": area}


def inline_jpeg(picture: Image.Image) -> str:
    """Return `picture`, mode `RGB`, as a `data:` URL (RFC 2397), so that a page needs no other file."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_picture(picture, "jpeg").data).decode("ascii")
