"""Modality and VOI lookup tables of a DICOM header (DICOM PS3.3, C.11.1.1 and C.11.2.1.1).

Manufacturers fill in the descriptor in different ways, so its three numbers are interpreted together with the data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset, Sequence
from pydicom.dataelem import RawDataElement

from app.imaging.dicom.attributes import numbers, wrong

_MAX_BYTES = 1024 * 1024
_MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Table:
    """A table with `entries`, uint16 `[n]`.

    `first` (0..65535) is the value of the first entry, still without its sign. `bits` is the depth of the entries
    according to the descriptor; 0 if it is missing.
    """

    first: int
    bits: int
    entries: npt.NDArray[np.uint16]

    def looked_up(self, values: npt.NDArray[np.float64], measured: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Look up all possible `values`. Values outside the table get its first or last entry.

        `measured` tells which of the values occur.
        """
        index = np.clip(np.rint(values) - self._first_of(values, measured), 0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)].astype(np.float64)

    def top(self) -> int:
        """Return the entry that is white, from the bits of the descriptor or from those that the entries need.

        The descriptor is ignored if entries need more bits, or leave two or more unused, or if it says 16, which
        manufacturers often write for fewer.
        """
        held = int(self.entries.max()).bit_length()
        believed = 0 < self.bits < 16 and self.bits - 1 <= held <= self.bits
        return 2 ** (self.bits if believed else max(held, 1)) - 1

    def _first_of(self, values: npt.NDArray[np.float64], measured: npt.NDArray[np.bool_]) -> int:
        """Return the first value with its sign, which depends on the values and not on whether it is US or SS.

        Of both readings, the one whose span covers more of the occurring values applies; if they are equal, the one
        with a possible sign.
        """
        signed = self.first - 65536 if self.first >= 32768 else self.first
        found = values[measured] if measured.any() else values
        low, high = float(found.min()), float(found.max())

        def covered(first: int) -> float:
            return max(min(high, first + len(self.entries) - 1) - max(low, first), -1.0)

        if covered(signed) == covered(self.first):
            return signed if values.min() < 0 else self.first
        return max(signed, self.first, key=covered)


def first_table(header: Dataset, keyword: str) -> Table | None:
    """Return the table in the first non-empty item of the sequence `keyword`; None if there is none.

    Raises:
        CorruptImageError: if the sequence is too large, or if the table contradicts its descriptor.
    """
    if keyword not in header:
        return None
    raw = header.get_item(keyword)
    if raw.is_raw and raw.value is not None and len(raw.value) > _MAX_BYTES:
        raise wrong(keyword, "is too large")
    items = header[keyword].value
    if not isinstance(items, Sequence):
        return None
    tables = (_table(item, keyword) for item in items[:_MAX_ITEMS])
    return next((table for table in tables if table is not None), None)


def _table(item: Dataset, keyword: str) -> Table | None:
    said = numbers(item, "LUTDescriptor")
    if not said or "LUTData" not in item:
        return None
    data, little_endian, words = _data(item.get_item("LUTData"))
    if not data:
        return None
    if len(said) != 3 or said[0] is None or said[1] is None:
        raise wrong("LUTDescriptor", f"of {keyword} does not have three numbers")
    count = int(said[0]) & 0xFFFF or 65536
    bits = int(said[2] or 0)
    if 0 < bits <= 8 and count - 1 <= len(data) <= count + 1:
        packed = np.frombuffer(data, np.uint8)
        if words and not little_endian:  # the first of two entries is the low byte of a word
            packed = packed[: len(packed) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        entries = packed[:count].astype(np.uint16)
    elif len(data) // 2 >= count - 1:
        kind = "<u2" if little_endian else ">u2"
        entries = np.frombuffer(data, kind, min(count, len(data) // 2)).astype(np.uint16)
    else:
        raise wrong("LUTData", f"of {keyword} holds fewer entries than its LUT Descriptor (0028,3002) says")
    missing = count - len(entries)
    return Table(int(said[1]) & 0xFFFF, bits, np.pad(entries, (0, missing), mode="edge") if missing else entries)


def _data(element: RawDataElement | DataElement) -> tuple[bytes, bool, bool]:
    """Return the bytes of the entries, whether they are little-endian, and whether they are words."""
    value: Any = element.value
    words = element.VR != "OB"
    if isinstance(value, bytes):
        return value, getattr(element, "is_little_endian", True), words
    values = np.atleast_1d(np.array([] if value is None else value, np.int64))
    return (values & 0xFFFF).astype(np.uint16).tobytes(), sys.byteorder == "little", words
