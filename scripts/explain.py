"""`python -m scripts.explain FOLDER --out OUT`: explain every image of a folder, without a server.

Writes OUT/results.csv, one overlay per image in OUT/overlays/, and a contact sheet OUT/index.html. A second run resumes
where the first was interrupted, and processes only images that are new or have changed.

With --ray, FOLDER and OUT may be URIs such as s3://bucket/films, the table is OUT/results.parquet, and there is no
contact sheet (docs/cluster.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import find_artifact
from app.errors import LightboxError, SetupError
from app.explain.cams import METHODS
from app.explain.question import Question
from app.imaging.encoders import PICTURE_FORMATS
from app.imaging.overlay import COLORMAPS, Style
from scripts.batch.folder import CONCURRENT_IMAGES, FolderJob, explain_folder


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.explain", description=__doc__)
    parser.add_argument("folder", help="the images, including those in sub-folders")
    parser.add_argument("--out", required=True, help="folder for results.csv, index.html and overlays/")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--model", default="cxr-vgg16")
    parser.add_argument("--version", type=int, help="version; default: the highest")
    parser.add_argument("--class", dest="class_name", help="the class to explain; default: the predicted one")
    parser.add_argument("--against", help="a second class: explain why the first and not this one")
    parser.add_argument("--method", default="gradcam", choices=list(METHODS))
    parser.add_argument("--format", default="jpeg", choices=PICTURE_FORMATS, help="format of the overlays")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--colormap", default="jet", choices=COLORMAPS)
    parser.add_argument(
        "--outline", action="store_true", help="draw the border of the organ that the model locates on the overlays"
    )
    parser.add_argument("--side", type=int, default=1024, help="longest side of an overlay, in pixels")
    parser.add_argument(
        "--at-once", type=int, default=CONCURRENT_IMAGES, help="number of images processed concurrently"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="use Ray: the cluster at ADDRESS, or without it this machine",
    )
    options = parser.parse_args(arguments)
    if options.ray is None and not Path(options.folder).is_dir():
        parser.error(f"{options.folder} is not a folder")
    style = Style(options.format, options.alpha, options.colormap)
    question = Question(options.class_name, options.against, options.method, outline=options.outline)
    try:
        entry = find_artifact(options.store, options.model, options.version)
        if options.ray is not None:
            (count, unreadable), table = _with_ray(options, entry, question, style), f"{options.out}/results.parquet"
        else:
            out = Path(options.out)
            job = FolderJob(Path(options.folder), out, question, style, options.side, options.at_once)
            rows, table = explain_folder(job, TensorFlowRuntime(entry)), f"{out / 'index.html'}"
            count, unreadable = len(rows), sum(bool(row["error"]) for row in rows)
    except (LightboxError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"explained {count - unreadable} images; {unreadable} files can't be read; see {table}")
    return 0


def _with_ray(options: argparse.Namespace, entry: Path, question: Question, style: Style) -> tuple[int, int]:
    try:
        from scripts.batch.distributed import DistributedJob, explain_distributed  # noqa: PLC0415  # optional
        from scripts.batch.locations import Location  # noqa: PLC0415  # optional
    except ImportError as error:
        raise SetupError("--ray needs the extra `ray`: pip install 'lightbox[ray]'") from error
    folder, out = Location.of(options.folder), Location.of(options.out)
    if not folder.exists():
        raise SetupError(f"{options.folder} is not a folder")
    job = DistributedJob(folder, out, entry.absolute(), question, style, options.side)
    return explain_distributed(job, options.ray)


if __name__ == "__main__":
    raise SystemExit(main())
