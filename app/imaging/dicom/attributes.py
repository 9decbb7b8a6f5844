"""Tolerant access to single attributes of a DICOM header, from their raw bytes.

pydicom raises errors for decimal commas, empty first values and texts in numeric attributes. Error messages name the
attribute, but never quote its value, which may contain a patient's name.
"""

from __future__ import annotations

import math
import re
import struct

from pydicom import Dataset
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword

from app.errors import CorruptImageError

# Windows, spacings and aspect ratios have a handful of values; only the start of a longer text is parsed.
_MAX_BYTES = 1024
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "US or SS": "H"}


def named(keyword: str) -> str:
    """Return the name of an attribute for messages: `Rescale Slope (0028,1053)`."""
    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def wrong(keyword: str, what: str) -> CorruptImageError:
    """Return the error for an invalid attribute: `wrong("Rows", "is missing")`."""
    return CorruptImageError(f"the DICOM image can't be decoded: {named(keyword)} {what}")


def numbers(header: Dataset, keyword: str) -> list[float | None]:
    """Return the values of an attribute in order, with None for those that are empty, infinite or not a number.

    The list is empty if the attribute is missing or has no value.
    """
    if keyword not in header:
        return []
    element = header.get_item(keyword)
    if not element.is_raw:
        values = element.value if element.VM > 1 else [element.value]
        return [_number(str(value)) for value in values if value is not None]
    data = (element.value or b"")[:_MAX_BYTES]
    said = element.VR if element.VR in _BINARY or element.VR in ("DS", "IS") else dictionary_VR(element.tag)
    if said in _BINARY:
        letter = _BINARY[said]
        count = len(data) // struct.calcsize(letter)
        order = "<" if element.is_little_endian else ">"
        found = struct.unpack_from(f"{order}{count}{letter}", data)
        return [float(value) if math.isfinite(value) else None for value in found]
    text = data.decode("latin-1").strip(" \0")
    return [_number(part) for part in text.split("\\")] if text else []


def number(header: Dataset, keyword: str) -> float | None:
    """Return the first value of an attribute; None if it is missing or not a number."""
    return next(iter(numbers(header, keyword)), None)


def whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    """Return an attribute that is an integer of at least 0; `default` if it is missing or empty.

    Raises:
        CorruptImageError: if the value is not such an integer, or if it is missing and there is no default.
    """
    found = numbers(header, keyword)
    if not found:
        if default is None:
            raise wrong(keyword, "is missing")
        return default
    if found[0] is None or found[0] != int(found[0]) or found[0] < 0:
        raise wrong(keyword, "is not a whole number")
    return int(found[0])


def term(header: Dataset, keyword: str) -> str:
    """Return a single coded term in capitals; empty if the attribute is missing or has several values."""
    value = header.get(keyword)
    return value.strip(" \0").upper() if isinstance(value, str) else ""


def _number(text: str) -> float | None:
    text = text.strip(" \0").replace(",", ".")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None
