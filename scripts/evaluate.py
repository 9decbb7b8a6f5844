"""`python -m scripts.evaluate`: evaluate an artefact on a data folder, and write metrics and a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.errors import ArtifactError
from scripts.errors import ScriptError
from scripts.evaluation.pipeline import evaluate_artifact


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a version folder: model_store/NAME/VERSION")
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with metadata.csv, or with one sub-folder per class"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="the folder of the report")
    options = parser.parse_args(arguments)
    try:
        figures = evaluate_artifact(options.model, options.data, options.out)
    except (ScriptError, ArtifactError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    accuracy = figures["accuracy"]
    print(
        f"accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f}-{accuracy['high']:.3f}) on {accuracy['films']} films"
    )
    print(f"wrote {options.out / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
