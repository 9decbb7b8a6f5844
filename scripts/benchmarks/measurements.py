"""What serving adds to the bare model call, as ratios from one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from app.explain.question import Question
from app.imaging.overlay import Style
from app.settings import Settings
from scripts.batch.folder import FolderJob, explain_folder
from scripts.benchmarks.bare import BATCH_SIZES, Bare, Yardstick, median_ms, multiplication_rate
from scripts.benchmarks.load import Server, health_p99_ms, rate, served
from scripts.benchmarks.stages import stage_times
from scripts.benchmarks.tutorial import tutorial
from scripts.datasets.films import read_films

SIDE = 1024
CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured row: `value` in `unit`; `ratio` to what `of` names, where there is something to compare with."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: calls per latency, requests for the throughput and for the memory, films of a folder."""

    rounds: int
    requests: int
    memory_requests: int
    folder_films: int


def films(folder: Path | None, count: int = 8) -> list[Image.Image]:
    """`count` grey films of 1024 x 1024: of `folder`, cropped, or else seeded pictures with a film's spectrum."""
    if folder is not None:
        return [_square(Image.open(film.path).convert("L")) for film in read_films(folder)[:count]]
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.uniform(30, 220, (12, 12)).astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        values = np.asarray(coarse) + rng.normal(0, 4, (SIDE, SIDE))
        made.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return made


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str) -> bytes:
    """`image` as PNG or JPEG bytes."""
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def latencies(url: str, bodies: dict[str, list[bytes]], bare: Bare, rounds: int) -> Iterator[Figure]:
    """One client's p50, and how it divides into stages."""
    yardstick = Yardstick(lambda: bare.predict_ms(rounds))
    with httpx.Client(base_url=url, timeout=60) as client:

        def post(path: str, kind: str) -> Callable[[int], object]:
            return lambda i: client.post(path, content=bodies[kind][i % len(bodies[kind])]).raise_for_status()

        for name, path, kind in (
            ("/predict, PNG 1024²", "/predict", "PNG"),
            ("/predict, JPEG 1024²", "/predict", "JPEG"),
            ("/explain, PNG 1024², PNG overlay", "/explain", "PNG"),
            ("/explain, PNG 1024², JPEG overlay", "/explain?format=jpeg", "PNG"),
        ):
            with stage_times(client) as stages:
                taken = median_ms(post(path, kind), rounds, name)
            yield Figure(name, taken, "ms", taken / yardstick.around(), "bare predict")
            for stage, mean in stages.items():
                yield Figure(f"{name}: mean of {stage}", mean, "ms")


def throughputs(url: str, bodies: dict[str, list[bytes]], batches: Yardstick, requests: int) -> Iterator[Figure]:
    """What many clients get, who ask one after the other."""
    for kind in ("PNG", "JPEG"):
        name = f"/predict, {CLIENTS} clients, {kind} 1024²"
        reached = rate(url, "/predict", bodies[kind], clients=CLIENTS, requests=requests, label=name)
        yield Figure(name, reached, "images/s", reached / batches.around(), "best bare batches")


def memory(server: Server, bodies: list[bytes], requests: int) -> Iterator[Figure]:
    """Resident memory after a tenth of `requests`, and after all of them."""
    early = max(1, requests // 10)
    rate(server.url, "/explain?format=jpeg", bodies, clients=CLIENTS, requests=early, label="memory, first part")
    before = server.resident_mb
    rate(server.url, "/explain?format=jpeg", bodies, clients=CLIENTS, requests=requests - early, label="memory, rest")
    yield Figure(f"resident memory after {early} requests", before, "MB")
    yield Figure(
        f"resident memory after {requests} requests",
        server.resident_mb,
        "MB",
        server.resident_mb / before,
        f"after {early}",
    )


def measure(
    settings: Settings,
    entry: Path,
    effort: Effort,
    bodies: dict[str, list[bytes]],
    *,
    own: Path | None,
    url: str | None,
) -> Iterator[Figure]:
    """Every figure, as soon as it is known; of the service at `url`, or of one that is started.

    `own` is a folder of films to explain as they are.
    """
    bare = Bare(entry)
    bare_ms = bare.predict_ms(effort.rounds)
    yield Figure("bare predict", bare_ms, "ms", 1.0, "bare predict")
    multiplied = multiplication_rate(effort.rounds)
    yield Figure("matrix multiplication, float32", multiplied / 1e9, "GFLOP/s")
    arithmetic_ms = 1000 * bare.operations() / multiplied
    yield Figure(
        "the arithmetic of one image at that rate", arithmetic_ms, "ms", arithmetic_ms / bare_ms, "bare predict"
    )
    evidence_ms = bare.evidence_ms(effort.rounds)
    yield Figure("bare evidence", evidence_ms, "ms", evidence_ms / bare_ms, "bare predict")
    rates = {size: bare.rate(size, effort.rounds) for size in BATCH_SIZES}
    for size, images_a_second in rates.items():
        yield Figure(f"bare predict, batches of {size}", images_a_second, "images/s")
    best = max(rates, key=lambda size: rates[size])
    batches = Yardstick(lambda: bare.rate(best, effort.rounds))
    yield from folder_rates(bare, batches, bodies["PNG"], own, effort.folder_films)
    if url is not None:
        yield from load(url, bodies, bare, batches, effort, settings.max_concurrent_requests)
    else:
        with served(settings) as server:
            yield Figure("start to ready", server.start_s, "s")
            yield from load(server.url, bodies, bare, batches, effort, settings.max_concurrent_requests)
            yield from memory(server, bodies["JPEG"], effort.memory_requests)


def load(
    url: str, bodies: dict[str, list[bytes]], bare: Bare, batches: Yardstick, effort: Effort, max_queue: int
) -> Iterator[Figure]:
    """One client's latencies, the throughput of many, and health while the queue is full."""
    yield from latencies(url, bodies, bare, effort.rounds)
    batches.around()  # its last measure is as old as the latencies took
    yield from throughputs(url, bodies, batches, effort.requests)
    waits, inside = health_p99_ms(url, bodies["JPEG"][0], clients=max_queue + CLIENTS, rounds=5 * effort.rounds)
    for path, taken in waits.items():
        yield Figure(f"{path}, p99 with a full queue", taken, "ms")
    yield Figure("requests inside meanwhile, median", inside, "requests", inside / max_queue, "places")


def folder_rates(bare: Bare, batches: Yardstick, made: list[bytes], own: Path | None, count: int) -> Iterator[Figure]:
    """`scripts.explain` on a folder of `count` films: `made` ones, and some of the folder `own` as they are."""
    numbered = [(f"{number:04}.png", made[number % len(made)]) for number in range(count)]
    yield _folder_rate(bare, batches, numbered, f"scripts.explain, {count} films, PNG 1024²")
    if own is not None:
        paths = [film.path for film in read_films(own)]
        taken = paths[:: max(1, len(paths) // count)][:count]
        films_read = [(f"{number:04}-{path.name}", path.read_bytes()) for number, path in enumerate(taken)]
        yield _folder_rate(bare, batches, films_read, f"scripts.explain, {len(taken)} films as they are")


def _folder_rate(bare: Bare, batches: Yardstick, files: list[tuple[str, bytes]], name: str) -> Figure:
    """From the first file that is read to the contact sheet."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "films"
        folder.mkdir()
        for file, data in files:
            (folder / file).write_bytes(data)
        start = time.perf_counter()
        explain_folder(FolderJob(folder, Path(place) / "out", Question(), Style("jpeg")), bare.runtime)
        reached = len(files) / (time.perf_counter() - start)
    return Figure(name, reached, "images/s", reached / batches.around(), "best bare batches")


def against_tutorial(entry: Path, films_sent: list[bytes], explain_ms: float, rounds: int) -> Figure:
    """The usual tutorial code on the same weights and films, against `/explain` with a PNG overlay."""
    explain = tutorial(entry)
    taken = median_ms(lambda i: explain(films_sent[i % len(films_sent)]), max(3, rounds // 4), "tutorial code")
    return Figure("the usual tutorial code, PNG overlay", taken, "ms", taken / explain_ms, "/explain")
