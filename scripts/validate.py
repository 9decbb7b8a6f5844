"""`python -m scripts.validate`: train and test a recipe on splits by patient, by image, or by a column of the data."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from scripts.datasets.collection import add_data_options, column_and_value, selection_of
from scripts.errors import ScriptError
from scripts.training.recipe import add_recipe_options, recipe_of
from scripts.training.validation import ValidationScheme, summary_lines, validate


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.validate", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--classes", help="class names in order: a,b,c; default: sorted")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="the folder of the feature cache")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--split", choices=("patient", "image"), default="patient", help="what is divided into folds")
    how.add_argument(
        "--leave-out", metavar="COLUMN", help="a column of metadata.csv whose values are left out one at a time"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="with --leave-out: leave out two values, of which each brings one class"
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds, at least 2")
    parser.add_argument(
        "--only", type=column_and_value, metavar="COLUMN=VALUE", help="use only these films, such as set=darkcovidnet"
    )
    parser.add_argument(
        "--class-source",
        type=column_and_value,
        action="append",
        default=[],
        metavar="LABEL=SOURCE",
        help="take the films of this class from this source alone; once for each class",
    )
    add_recipe_options(parser)
    options = parser.parse_args(arguments)
    classes = options.classes.split(",") if options.classes else None
    try:
        split = options.leave_out or options.split
        scheme = ValidationScheme(split, options.folds, options.only, options.pairs, tuple(options.class_source))
        figures = validate(selection_of(options), options.work, recipe_of(options), scheme, classes)
    except ScriptError as error:
        print(f"validate: {error}", file=sys.stderr)
        return 1
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(summary_lines(figures)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
