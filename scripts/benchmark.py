"""`python -m scripts.benchmark`: measure what serving adds to the bare model call, as ratios within one run."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import httpx

from app.errors import ArtifactError
from app.settings import Settings
from scripts.benchmarks.cluster import run_cluster_benchmark
from scripts.benchmarks.figures import HEADER
from scripts.benchmarks.measurements import Effort, run_benchmark
from scripts.benchmarks.soak import soak
from scripts.errors import ScriptError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status, which is 1 after an error message."""
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark", description=__doc__)
    parser.add_argument("--url", help="address of a running service with the same model; default: start one")
    parser.add_argument("--rounds", type=int, default=40, help="number of calls per latency")
    parser.add_argument("--requests", type=int, default=320, help="number of requests per throughput")
    parser.add_argument(
        "--memory-requests", type=int, default=2000, help="number of requests after which memory is measured"
    )
    parser.add_argument(
        "--folder-films", type=int, default=200, help="number of images in the folder for scripts.explain"
    )
    parser.add_argument("--films", type=Path, help="data folder with images to send; default: generated images")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--cluster", action="store_true", help="instead, compare the service on Ray with one process (docs/cluster.md)"
    )
    instead.add_argument(
        "--soak",
        type=int,
        metavar="N",
        help="instead, send N mixed requests (10000 is a full run) and measure what they leave behind in the server",
    )
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args(arguments)
    settings = Settings()
    effort = Effort(options.rounds, options.requests, options.memory_requests, options.folder_films)
    figures = []
    print(HEADER)
    try:
        if options.soak:
            measured = soak(settings, options.soak)
        elif options.cluster:
            measured = run_cluster_benchmark(settings, effort, options.films)
        else:
            measured = run_benchmark(settings, effort, options.films, options.url)
        for figure in measured:
            figures.append(figure)
            print(figure.row(), flush=True)
    except (ScriptError, ArtifactError, httpx.HTTPError) as error:
        print(f"benchmark: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.out:
        options.out.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
