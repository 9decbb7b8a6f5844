"""`python -m scripts.film FILE.png`: write the chest film of the package pydicom-data to a PNG file, to try."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from scripts.datasets.samples import film_of


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.film", description=__doc__)
    parser.add_argument("file", type=Path, help="the PNG file to write")
    options = parser.parse_args(arguments)
    Image.fromarray(film_of("RG1_UNCR.dcm")).save(options.file, "PNG")
    print(f"wrote {options.file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
