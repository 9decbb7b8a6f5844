"""`python -m scripts.validate`: how a recipe does on films that it was not trained on, split as asked."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scripts.errors import ScriptError
from scripts.training.recipe import add_recipe_options, recipe_of
from scripts.training.validation import Protocol, validate


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.validate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="metadata.csv, or one sub-folder per class")
    parser.add_argument("--classes", help="class names in the order wanted: a,b,c; default: sorted")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="folder for features, which are kept")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--split", choices=("patient", "image"), default="patient", help="what no two folds share")
    how.add_argument("--leave-out", metavar="COLUMN", help="of metadata.csv: each of its values is left out once")
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation; at least 2")
    parser.add_argument("--only", metavar="COLUMN=VALUE", help="films to use, such as set=darkcovidnet")
    add_recipe_options(parser)
    options = parser.parse_args(arguments)
    only = tuple(options.only.split("=", 1)) if options.only else None
    if only is not None and len(only) != 2:
        parser.error("--only takes COLUMN=VALUE")
    protocol = Protocol(options.leave_out or options.split, options.folds, only)
    classes = options.classes.split(",") if options.classes else None
    try:
        figures = validate(options.data, options.work, recipe_of(options), protocol, classes)
    except ScriptError as error:
        print(f"validate: {error}", file=sys.stderr)
        return 1
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(_lines(figures)))
    return 0


def _lines(figures: dict[str, Any]) -> list[str]:
    named = {"all": figures["all"], **figures["parts"]}
    if "elsewhere" in figures:
        named["elsewhere"] = figures["elsewhere"]
    lines = []
    for name, row in named.items():
        lines.append(f"{name}: accuracy {_in_words(row['accuracy'])}")
        for source, within in row["sources"].items():
            lines += [f"  {source}: {pair}, area {_in_words(area)}" for pair, area in within["auc"].items()]
    return lines


def _in_words(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), {figure['films']} films"


if __name__ == "__main__":
    raise SystemExit(main())
