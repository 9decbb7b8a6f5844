"""`python -m scripts.benchmark`: how much the service adds to the bare model call, as ratios from one run."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from app.artifact import find_artifact
from app.runtimes.tensorflow import TensorFlowRuntime
from app.settings import Settings
from scripts.errors import ScriptError

SIDE = 1024


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured row: the median of `milliseconds`, and its ratio to the bare predict call of the same run."""

    name: str
    milliseconds: float
    ratio: float


def films(count: int = 8) -> list[Image.Image]:
    """Grey images of 1024 x 1024 with a film's spectrum: smooth shapes and a little noise, seeded."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.uniform(30, 220, (12, 12)).astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        values = np.asarray(coarse) + rng.normal(0, 4, (SIDE, SIDE))
        made.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return made


def encode(image: Image.Image, kind: str) -> bytes:
    """`image` as PNG or JPEG bytes."""
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def median_ms(call: Callable[[int], object], rounds: int, label: str) -> float:
    """The median wall time of `call(i)`, in milliseconds, after two calls that don't count."""
    for i in range(2):
        call(i)
    times = []
    for i in tqdm(range(rounds), desc=label, unit="call", leave=False):
        start = time.perf_counter()
        call(i)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def bare_predict_ms(entry: Path, rounds: int) -> float:
    """The SavedModel's own predict call on one image, in this process, without a service."""
    runtime = TensorFlowRuntime(entry)
    spec = runtime.manifest.input
    image = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, spec.channels), np.uint8)
    return median_ms(lambda _: runtime.predict(image), rounds, "bare predict")


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    """A real server process on a free port; yields its URL once it is ready, and stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "LIGHTBOX_PORT": str(port),
        "LIGHTBOX_HOST": "127.0.0.1",
        "LIGHTBOX_MODEL_STORE": str(settings.model_store),
        "LIGHTBOX_MODEL": settings.model,
        "LIGHTBOX_LOG_LEVEL": "warning",
    }
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-m", "app"], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ready(url, process)
            yield url
        finally:
            process.terminate()


def wait_until_ready(url: str, process: subprocess.Popen[Any], limit_s: float = 120) -> None:
    """Return once `url` answers that it is ready.

    Raises:
        ScriptError: the process has ended, or the time is over.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ScriptError(f"the server ended with status {process.returncode} before it was ready")
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise ScriptError(f"the server was not ready within {limit_s:g} s")


def measure(url: str, bare_ms: float, rounds: int) -> list[Figure]:
    """One client's latencies against `url`."""
    pictures = films()
    bodies = {kind: [encode(image, kind) for image in pictures] for kind in ("PNG", "JPEG")}
    figures = [Figure("bare predict", bare_ms, 1.0)]
    with httpx.Client(base_url=url, timeout=60) as client:

        def post(path: str, kind: str) -> Callable[[int], object]:
            return lambda i: client.post(path, content=bodies[kind][i % len(bodies[kind])]).raise_for_status()

        for name, path, kind in (
            ("/predict, PNG 1024²", "/predict", "PNG"),
            ("/predict, JPEG 1024²", "/predict", "JPEG"),
            ("/explain, PNG 1024², PNG overlay", "/explain", "PNG"),
            ("/explain, PNG 1024², JPEG overlay", "/explain?format=jpeg", "PNG"),
        ):
            taken = median_ms(post(path, kind), rounds, name)
            figures.append(Figure(name, taken, taken / bare_ms))
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark", description=__doc__)
    parser.add_argument("--url", help="a service that runs already, with the same model; default: start one")
    parser.add_argument("--rounds", type=int, default=40, help="calls per figure")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args(arguments)
    settings = Settings()
    try:
        bare_ms = bare_predict_ms(find_artifact(settings.model_store, settings.model), options.rounds)
        if options.url:
            figures = measure(options.url, bare_ms, options.rounds)
        else:
            with served(settings) as url:
                figures = measure(url, bare_ms, options.rounds)
    except (ScriptError, httpx.HTTPError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(f"{'figure':<40}{'p50 ms':>10}{'× bare':>10}")
    for figure in figures:
        print(f"{figure.name:<40}{figure.milliseconds:>10.1f}{figure.ratio:>10.2f}")
    if options.out:
        options.out.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
