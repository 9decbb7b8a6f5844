"""Single attributes of a DICOM header, read from their bytes: odd spellings are read, what means nothing is None.

pydicom refuses a decimal comma, an empty first value, a text where a number belongs, and with it the whole object.
Nothing here quotes a value: it may name a patient.
"""

from __future__ import annotations

import math
import re
import struct

from pydicom import Dataset
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword

from app.errors import CorruptImageError

# A window, a spacing or an aspect ratio has a handful of values; the rest of a million is not looked at.
_MAX_BYTES = 1024
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "US or SS": "H"}


def named(keyword: str) -> str:
    """The attribute as messages name it: `Rescale Slope (0028,1053)`."""
    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def wrong(keyword: str, what: str) -> CorruptImageError:
    """The refusal of an object because of one attribute: `wrong("Rows", "is missing")`."""
    return CorruptImageError(f"the DICOM image can't be shown: {named(keyword)} {what}")


def numbers(header: Dataset, keyword: str) -> list[float | None]:
    """The values of an attribute in their order, None for those that are empty, infinite or no number.

    Empty where the attribute is absent or has no value.
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
    """The first value of an attribute; None where it has none that is a number."""
    return next(iter(numbers(header, keyword)), None)


def whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    """An attribute that is a whole number from 0 on; `default` where it is absent or empty.

    Raises:
        CorruptImageError: it is no such number, or absent without a default.
    """
    found = numbers(header, keyword)
    if not found:
        if default is None:
            raise wrong(keyword, "is missing")
        return default
    if found[0] is None or found[0] != int(found[0]) or found[0] < 0:
        raise wrong(keyword, "is no whole number")
    return int(found[0])


def term(header: Dataset, keyword: str) -> str:
    """An attribute that is one coded term, in capitals; empty where it is absent, empty or several."""
    value = header.get(keyword)
    return value.strip(" \0").upper() if isinstance(value, str) else ""


def _number(text: str) -> float | None:
    text = text.strip(" \0").replace(",", ".")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None
