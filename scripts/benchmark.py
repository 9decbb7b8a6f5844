"""`python -m scripts.benchmark`: what serving adds to the bare model call, as ratios from one run."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import httpx

from app.artifact.manifest import read_manifest
from app.artifact.store import find_artifact
from app.errors import ArtifactError
from app.settings import Settings
from scripts.benchmarks.measurements import Effort, Figure, against_tutorial, encode, films, measure
from scripts.errors import ScriptError


def show(figure: Figure) -> None:
    """One line of the table."""
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    print(f"{figure.name:<48}{figure.value:>10.1f} {figure.unit:<10}{ratio:>6}  {figure.of or ''}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark", description=__doc__)
    parser.add_argument("--url", help="a service that runs already, with the same model; default: start one")
    parser.add_argument("--rounds", type=int, default=40, help="calls per latency")
    parser.add_argument("--requests", type=int, default=320, help="requests for each throughput")
    parser.add_argument("--memory-requests", type=int, default=2000, help="requests after which memory is compared")
    parser.add_argument("--folder-films", type=int, default=200, help="films of the folder that scripts.explain reads")
    parser.add_argument("--films", type=Path, help="folder of real films to send; default: made by code")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args(arguments)
    settings = Settings()
    effort = Effort(options.rounds, options.requests, options.memory_requests, options.folder_films)
    figures = []
    print(f"{'figure':<48}{'value':>10} {'unit':<10}{'ratio':>6}  of")
    try:
        bodies = {kind: [encode(image, kind) for image in films(options.films)] for kind in ("PNG", "JPEG")}
        entry = find_artifact(settings.model_store, settings.model, settings.model_version)
        for figure in measure(settings, entry, effort, bodies, own=options.films, url=options.url):
            figures.append(figure)
            show(figure)
        if (read_manifest(entry).training or {}).get("backbone"):
            by_name = {figure.name: figure for figure in figures}
            explained = by_name["/explain, PNG 1024², PNG overlay"]
            figures.append(against_tutorial(entry, bodies["PNG"], explained.value, options.rounds))
            show(figures[-1])
    except (ScriptError, ArtifactError, httpx.HTTPError) as error:
        print(f"benchmark: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.out:
        options.out.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
