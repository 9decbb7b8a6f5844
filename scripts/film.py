"""`python -m scripts.film FILE.png`: write the chest film of the package pydicom-data as a PNG, to try."""

from __future__ import annotations

import argparse
from importlib.metadata import files
from pathlib import Path

import numpy as np
from PIL import Image

from app.arrays import UInt8Array
from app.imaging.decoding import decode
from scripts.datasets.films import MAX_PIXELS


def film_of(name: str) -> UInt8Array:
    """A film of the package pydicom-data as the service shows it: grey pixels `[H, W]`, 0..255."""
    listed = files("pydicom-data") or []
    path = next(Path(str(file.locate())) for file in listed if file.name == name)
    return np.asarray(decode(path.read_bytes(), max_pixels=MAX_PIXELS).image)


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
