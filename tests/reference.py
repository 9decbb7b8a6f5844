"""What a DICOM film is shown as, by the standard and docs/films.md, pixel by pixel: an oracle that shares no code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Lut:
    """A table: the value that its first entry stands for, the bits that it claims, and its entries."""

    first: int
    bits: int
    entries: Sequence[int]

    def __call__(self, value: float) -> int:
        index = math.floor(value + 0.5) if value % 1 != 0.5 else round(value)
        return self.entries[max(0, min(index - self.first, len(self.entries) - 1))]

    @cached_property
    def white(self) -> int:
        needed = len(f"{max(self.entries):b}")
        if self.bits == 16 or needed > self.bits or needed < self.bits - 1:
            return 2**needed - 1
        return 2**self.bits - 1


@dataclass(frozen=True)
class Film:
    """A header as it is meant, however it is written."""

    bits: int
    shift: int = 0
    signed: bool = False
    inverted: bool = False
    modality: Lut | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi: Lut | None = None
    window: tuple[float, float] | None = None
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"
    padding: tuple[int, int] | None = None

    def stored(self, word: int) -> int:
        value = (word >> self.shift) % 2**self.bits
        return value - 2**self.bits if self.signed and value >= 2 ** (self.bits - 1) else value

    def measured(self, stored: int) -> float:
        return self.modality(stored) if self.modality else stored * self.slope + self.intercept

    def is_padding(self, stored: int) -> bool:
        return self.padding is not None and self.padding[0] <= stored <= self.padding[1]


def shown(film: Film, words: np.ndarray) -> np.ndarray:
    """Words `[H, W]` as grey of 0..255, floating-point, not rounded."""
    stored = [film.stored(int(word)) for word in words.ravel()]
    values = [film.measured(value) for value, number in zip(stored, stored, strict=True) if not film.is_padding(number)]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    grey = [0.0 if film.is_padding(value) else _share(film, film.measured(value), low, high) for value in stored]
    return 255 * np.array(grey).reshape(words.shape)


def _share(film: Film, value: float, low: float, high: float) -> float:
    if film.voi is not None:
        share = film.voi(value) / film.voi.white
    elif film.window is not None:
        share = _windowed(value, *film.window, film.function)
    else:
        share = (value - low) / (high - low) if high > low else 0.0
    return 1 - share if film.inverted else share


def _windowed(x: float, center: float, width: float, function: str) -> float:
    """The pseudo-code of DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(max(-500.0, min(500.0, -4 * (x - center) / width))))
    if function == "LINEAR" and width >= 1:
        if x <= center - 0.5 - (width - 1) / 2:
            return 0.0
        if x > center - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (center - 0.5)) / (width - 1) + 0.5
    if x <= center - width / 2:
        return 0.0
    return 1.0 if x > center + width / 2 else (x - center) / width + 0.5
