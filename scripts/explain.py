"""`python -m scripts.explain FOLDER --out OUT`: every film of a folder through the analyzer, without a server.

Writes OUT/results.csv, one overlay a film in OUT/overlays/ and OUT/index.html to look through them. A second run
goes on where the first was stopped, and answers only what is new or has changed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import find_artifact
from app.errors import LightboxError
from app.explain.cams import METHODS
from app.explain.question import Question
from app.imaging.encoders import PICTURE_FORMATS
from app.imaging.overlay import COLORMAPS, Style
from scripts.batch.folder import CONCURRENT_IMAGES, FolderJob, explain_folder


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.explain", description=__doc__)
    parser.add_argument("folder", type=Path, help="films, in sub-folders too")
    parser.add_argument("--out", type=Path, required=True, help="where results.csv, index.html and overlays/ go")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--model", default="cxr-vgg16")
    parser.add_argument("--version", type=int, help="default: the highest")
    parser.add_argument("--class", dest="class_name", help="the class to explain; default: the predicted one")
    parser.add_argument("--against", help="explain why the class and not this one")
    parser.add_argument("--method", default="gradcam", choices=list(METHODS))
    parser.add_argument("--format", default="jpeg", choices=PICTURE_FORMATS, help="of the overlays")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--colormap", default="jet", choices=COLORMAPS)
    parser.add_argument("--side", type=int, default=1024, help="longest side of an overlay in pixels")
    parser.add_argument("--at-once", type=int, default=CONCURRENT_IMAGES, help="films under way together")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    style = Style(options.format, options.alpha, options.colormap)
    question = Question(options.class_name, options.against, options.method)
    plan = FolderJob(options.folder, options.out, question, style, options.side, options.at_once)
    try:
        rows = explain_folder(plan, TensorFlowRuntime(find_artifact(options.store, options.model, options.version)))
    except LightboxError as error:
        print(error, file=sys.stderr)
        return 1
    unread = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows) - unread} films explained, {unread} files not readable: {options.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
