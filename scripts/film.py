"""`python -m scripts.film FILE.png`: write the chest film of the package pydicom-data as a PNG, to try."""

from __future__ import annotations

import argparse
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from app.arrays import UInt8Array


def film_of(name: str) -> UInt8Array:
    """A film of the package pydicom-data as grey pixels `[H, W]`, 0..255, air black."""
    listed = files("pydicom-data") or []
    path = next(Path(str(file.locate())) for file in listed if file.name == name)
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    grey = (values - values.min()) / (values.max() - values.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return (grey * 255 + 0.5).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.film", description=__doc__)
    parser.add_argument("file", type=Path, help="the PNG to write")
    options = parser.parse_args(arguments)
    Image.fromarray(film_of("RG1_UNCR.dcm")).save(options.file, "PNG")
    print(f"wrote {options.file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
