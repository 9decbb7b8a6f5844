"""`python -m scripts.amend`: backfill the golden cases, sanity check and warning thresholds of an artefact."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.errors import ArtifactError
from scripts.errors import ScriptError
from scripts.exporting.backfill import backfill
from scripts.exporting.expectations import add_expectations, expectation_of


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.amend", description=__doc__)
    parser.add_argument("model", type=Path, help="a version folder: model_store/NAME/VERSION")
    parser.add_argument("--data", type=Path, help="the training data, to measure the thresholds of warnings")
    add_expectations(parser)
    options = parser.parse_args(arguments)
    try:
        manifest = backfill(options.model, options.data, expectation_of(options))
    except (ScriptError, ArtifactError) as error:
        print(f"amend: {error}", file=sys.stderr)
        return 1
    assert manifest.sanity is not None
    print(
        f"backfilled {options.model}; with randomised weights, the correlations of its heatmaps with the original ones "
        f"are {manifest.sanity.correlations}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
