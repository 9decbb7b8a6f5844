"""`python -m scripts.evaluate`: evaluate an artefact on a data folder, and write metrics and a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from app.errors import ArtifactError
from scripts.datasets.collection import add_data_options, selection_of
from scripts.errors import ScriptError
from scripts.evaluation.pipeline import Depth, evaluate_artifact


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a version folder: model_store/NAME/VERSION")
    add_data_options(parser)
    parser.add_argument(
        "--depth", choices=get_args(Depth), default="full", help="figures: skip the checks that ask the model again"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="the folder of the report")
    options = parser.parse_args(arguments)
    try:
        figures = evaluate_artifact(options.model, selection_of(options), options.out, options.depth)
    except (ScriptError, ArtifactError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(_headline(figures))
    print(f"wrote {options.out / 'report.html'}")
    return 0


def _headline(figures: dict[str, Any]) -> str:
    films = figures["data"]["films"]
    if "accuracy" not in figures:
        return f"mean AUC {figures['mean_auc']:.3f} over {len(figures['classes'])} classes on {films} films"
    accuracy = figures["accuracy"]
    return f"accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f}-{accuracy['high']:.3f}) on {films} films"


if __name__ == "__main__":
    raise SystemExit(main())
