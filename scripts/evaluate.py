"""`python -m scripts.evaluate`: what an artefact makes of a data folder, as figures and as a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.errors import ArtifactError
from scripts.datasets.films import digest, read_films
from scripts.errors import ScriptError
from scripts.evaluation.judgement import judge, run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a version folder: model_store/NAME/VERSION")
    parser.add_argument("--data", type=Path, required=True, help="metadata.csv, or one sub-folder per class")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the report")
    options = parser.parse_args(arguments)
    try:
        films = read_films(options.data)
        facts = {"data": {"sha256": digest(films), "films": len(films)}}
        figures = judge(options.out, options.model, [(options.model, run(options.model, films))], facts)
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
