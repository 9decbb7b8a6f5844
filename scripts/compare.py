"""`python -m scripts.compare FIRST SECOND --data DIR`: compare two versions of a model before you swap them.

FIRST and SECOND are NAME/VERSION or NAME (the highest version) in the store, or version folders. The command writes
OUT/comparison.html, OUT/comparison.json and OUT/films.csv. Its exit status is 1 if a requirement of --require is not
met, 2 if the versions can't be compared, otherwise 0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from app.errors import ArtifactError
from scripts.comparing.pipeline import compare_versions
from scripts.comparing.requirements import read_requirements
from scripts.comparing.versions import find_version
from scripts.datasets.collection import add_data_options, read_collection, selection_of
from scripts.errors import ScriptError
from scripts.evaluation.rendering import area, interval


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="the version in use: NAME/VERSION, NAME or a folder")
    parser.add_argument("second", help="the version that may replace it")
    add_data_options(parser)
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--require", type=Path, metavar="FILE", help="thresholds that must be met, as TOML or JSON")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="the folder of the results")
    parser.add_argument("--limit", type=_count, help="compare a random sample of this many films, always the same")
    parser.add_argument("--show", type=_count, default=12, help="the number of films in each group of the page")
    options = parser.parse_args(arguments)
    try:
        requirements = None if options.require is None else read_requirements(options.require)
        entries = find_version(options.first, options.store), find_version(options.second, options.store)
        comparison = compare_versions(
            entries,
            read_collection(selection_of(options)).films,
            options.out,
            limit=options.limit,
            shown=options.show,
            requirements=requirements,
        )
    except (ScriptError, ArtifactError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print("\n".join(_headlines(comparison.figures)))
    print(f"wrote {options.out / 'comparison.html'}")
    unmet = [verdict for verdict in comparison.verdicts if not verdict.met]
    for verdict in unmet:
        print(f"not met: {verdict.sentence}", file=sys.stderr)
    return 1 if unmet else 0


def _headlines(figures: dict[str, Any]) -> list[str]:
    answers, moved = figures["answers"], figures["explanations"]["rank_correlation"]
    changed, accuracy, test = answers["changed"], answers["accuracy"], answers["mcnemar"]
    films, right, wrong = figures["data"]["films"], test["became_right"], test["became_wrong"]
    return [
        f"{interval(changed)} of the answers for {films} films change; {right} become right, {wrong} wrong",
        f"accuracy {area(accuracy['first'])}, then {area(accuracy['second'])}",
        f"rank correlation of the heatmaps {area(moved['mean'])}; with another film's {area(moved['control'])}",
    ]


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
