"""`python -m scripts.pretrained`: add a pretrained ImageNet network with its 1,000 classes to the model store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.errors import ArtifactError
from scripts.errors import ScriptError
from scripts.exporting.pretrained import LITE0, SOURCES, publish


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pretrained", description=__doc__)
    parser.add_argument("name", choices=sorted([*SOURCES, LITE0]), metavar="NAME", help=", ".join([LITE0, *SOURCES]))
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a weights file of the network")
    options = parser.parse_args(arguments)
    try:
        entry = publish(options.name, options.store, options.weights)
    except (ScriptError, ArtifactError) as error:
        print(f"pretrained: {error}", file=sys.stderr)
        return 1
    print(f"wrote {entry}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
