"""Sample radiographs from the package pydicom-data."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

import numpy as np

from app.arrays import UInt8Array
from scripts.datasets.images import read_image


def film_of(name: str) -> UInt8Array:
    """Return the film in the file `name` of pydicom-data as the service shows it: grey pixels `[H, W]`, 0..255."""
    listed = files("pydicom-data") or []
    path = next(Path(str(file.locate())) for file in listed if file.name == name)
    return np.asarray(read_image(path).image)
