"""Images that packages carry."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

import numpy as np

from app.arrays import UInt8Array
from app.imaging.decoding import decode
from app.imaging.headers import identify
from scripts.datasets.films import MAX_PIXELS


def film_of(name: str) -> UInt8Array:
    """A film of the package pydicom-data as the service shows it: grey pixels `[H, W]`, 0..255."""
    listed = files("pydicom-data") or []
    path = next(Path(str(file.locate())) for file in listed if file.name == name)
    return np.asarray(decode(identify(path.read_bytes()), max_pixels=MAX_PIXELS).image)
