"""`python -m scripts.train`: train a classifier by transfer learning, and publish it with a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from app.errors import ArtifactError
from scripts.datasets.collection import add_data_options, selection_of
from scripts.errors import ScriptError
from scripts.evaluation.pipeline import Depth
from scripts.exporting.expectations import add_expectations, expectation_of
from scripts.training.pipeline import train
from scripts.training.recipe import add_recipe_options, recipe_of


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--classes", help="class names in order: a,b,c; default: sorted")
    parser.add_argument("--name", help="name in the model store; default: DATA-BACKBONE, after the first folder")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(".training"),
        help="folder of the intermediate results, from which an interrupted run resumes",
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds of the cross-validation, at least 2")
    parser.add_argument(
        "--depth", choices=get_args(Depth), default="full", help="figures: a report without the robustness checks"
    )
    add_recipe_options(parser)
    add_expectations(parser)
    options = parser.parse_args(arguments)
    recipe = recipe_of(options)
    name = options.name or f"{options.data[0].resolve().name}-{options.backbone}"
    classes = options.classes.split(",") if options.classes else None
    try:
        entry = train(
            selection_of(options),
            name,
            options.store,
            options.work,
            recipe,
            classes=classes,
            fold_count=options.folds,
            expects=expectation_of(options),
            depth=options.depth,
        )
    except (ScriptError, ArtifactError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    print(f"wrote {entry}; its report: {entry / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
