"""The measurements of the benchmark: latency, throughput and memory of the service, relative to the bare model."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from app.artifact.manifest import read_manifest
from app.artifact.store import find_artifact
from app.explain.question import Question
from app.imaging.overlay import Style
from app.settings import Settings
from scripts.batch.folder import FolderJob, explain_folder
from scripts.benchmarks.bare import BATCH_SIZES, BareModel, Baseline, median_ms, multiplication_rate
from scripts.benchmarks.binary_body import binary_body
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load import Server, health_p99_ms, rate, served
from scripts.benchmarks.stages import stage_times
from scripts.benchmarks.tutorial import tutorial
from scripts.datasets.films import read_films

SIDE = 1024
CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: calls per latency.
        requests: requests per throughput.
        memory_requests: requests after which memory is measured.
        folder_images: images in the folder for `scripts.explain`.
    """

    rounds: int
    requests: int
    memory_requests: int
    folder_images: int


def run_benchmark(settings: Settings, effort: Effort, folder: Path | None, url: str | None) -> Iterator[Figure]:
    """Measure the service and the bare model, and yield each figure as soon as it is known.

    Args:
        settings: name the model. Its service is started unless there is a `url`.
        effort: how much is measured.
        folder: a data folder with the images to send; None generates images.
        url: the address of a running service with the same model.

    Raises:
        ScriptError: the folder can't be used, or the server does not become ready.
        ArtifactError: the model can't be found or loaded.
        httpx.HTTPError: a request failed.
    """
    images = sample_images(folder)
    bodies = {kind: [encode(image, kind) for image in images] for kind in ("PNG", "JPEG")}
    entry = find_artifact(settings.model_store, settings.model, settings.model_version)
    by_name = {}
    for figure in _measure(settings, entry, effort, bodies, folder, url):
        by_name[figure.name] = figure
        yield figure
    if (read_manifest(entry).training or {}).get("backbone"):
        explained = by_name["/explain, PNG 1024², PNG overlay"]
        yield against_tutorial(entry, bodies["PNG"], explained.value, effort.rounds)


def sample_images(folder: Path | None, count: int = 8) -> list[Image.Image]:
    """Return `count` grey images of 1024 x 1024 pixels, cropped from the data folder, or generated if it is None.

    The generated images are the same in every run, and have the spectrum of a radiograph.
    """
    if folder is not None:
        return [_square(Image.open(film.path).convert("L")) for film in read_films(folder)[:count]]
    images = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.uniform(30, 220, (12, 12)).astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        values = np.asarray(coarse) + rng.normal(0, 4, (SIDE, SIDE))
        images.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return images


def _square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str) -> bytes:
    """Encode `image` as `PNG` or `JPEG`."""
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def latencies(url: str, bodies: dict[str, list[bytes]], bare: BareModel, rounds: int) -> Iterator[Figure]:
    """Measure the median latency of a single client, and its division into stages."""
    baseline = Baseline(lambda: bare.predict_ms(rounds))
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
            yield Figure(name, taken, "ms", taken / baseline.remeasure(), "bare predict")
            for stage, mean in stages.items():
                yield Figure(f"{name}: mean of {stage}", mean, "ms")


def protocol_latency(url: str, model: str, bodies: list[bytes], rounds: int) -> Figure:
    """Measure the median latency of the Open Inference Protocol with binary tensors, relative to `/predict`.

    The two take turns, so that whatever else the machine does slows both down.
    """
    taken: dict[str, list[float]] = {"/predict": [], f"/v2/models/{model}/infer": []}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(rounds + 1):
            image = bodies[number % len(bodies)]
            for path, times in taken.items():
                body, headers = (image, {}) if path == "/predict" else binary_body(image)
                start = time.perf_counter()
                client.post(path, content=body, headers=headers).raise_for_status()
                times.append(1000 * (time.perf_counter() - start))
    raw, binary = (statistics.median(times[1:]) for times in taken.values())  # the first call warms up
    return Figure("V2 binary, PNG 1024²", binary, "ms", binary / raw, "/predict, raw body")


def throughputs(url: str, bodies: dict[str, list[bytes]], batches: Baseline, requests: int) -> Iterator[Figure]:
    """Measure the throughput of `/predict` with many concurrent clients."""
    for kind in ("PNG", "JPEG"):
        name = f"/predict, {CLIENTS} clients, {kind} 1024²"
        reached = rate(url, "/predict", bodies[kind], clients=CLIENTS, requests=requests, label=name)
        yield Figure(name, reached, "images/s", reached / batches.remeasure(), "best bare batches")


def memory(server: Server, bodies: list[bytes], requests: int) -> Iterator[Figure]:
    """Measure resident memory after a tenth of `requests`, and after all of them."""
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


def _measure(
    settings: Settings,
    entry: Path,
    effort: Effort,
    bodies: dict[str, list[bytes]],
    folder: Path | None,
    url: str | None,
) -> Iterator[Figure]:
    """Measure everything except the tutorial code."""
    bare = BareModel(entry)
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
    for size, images_per_second in rates.items():
        yield Figure(f"bare predict, batches of {size}", images_per_second, "images/s")
    best = max(rates, key=lambda size: rates[size])
    batches = Baseline(lambda: bare.rate(best, effort.rounds))
    yield from folder_rates(bare, batches, bodies["PNG"], folder, effort.folder_images)
    if url is not None:
        yield from load(url, bodies, bare, batches, effort, settings.max_concurrent_requests)
    else:
        with served(settings) as server:
            yield Figure("start to ready", server.start_s, "s")
            yield from load(server.url, bodies, bare, batches, effort, settings.max_concurrent_requests)
            yield from memory(server, bodies["JPEG"], effort.memory_requests)


def load(
    url: str, bodies: dict[str, list[bytes]], bare: BareModel, batches: Baseline, effort: Effort, slots: int
) -> Iterator[Figure]:
    """Measure latencies, throughput, and the health endpoints while all `slots` of the service are occupied."""
    yield from latencies(url, bodies, bare, effort.rounds)
    yield protocol_latency(url, bare.runtime.manifest.name, bodies["PNG"], effort.rounds)
    batches.remeasure()  # its last value is older than the latencies
    yield from throughputs(url, bodies, batches, effort.requests)
    waits, in_flight = health_p99_ms(url, bodies["JPEG"][0], clients=slots + CLIENTS, rounds=5 * effort.rounds)
    for path, taken in waits.items():
        yield Figure(f"{path}, p99 with a full queue", taken, "ms")
    yield Figure("requests in flight, median", in_flight, "requests", in_flight / slots, "slots")


def folder_rates(
    bare: BareModel, batches: Baseline, generated: list[bytes], folder: Path | None, count: int
) -> Iterator[Figure]:
    """Measure `scripts.explain` on `count` of the `generated` images, and on as many unchanged files of `folder`."""
    numbered = [(f"{number:04}.png", generated[number % len(generated)]) for number in range(count)]
    yield _folder_rate(bare, batches, numbered, f"scripts.explain, {count} films, PNG 1024²")
    if folder is not None:
        paths = [film.path for film in read_films(folder)]
        chosen = paths[:: max(1, len(paths) // count)][:count]
        files = [(f"{number:04}-{path.name}", path.read_bytes()) for number, path in enumerate(chosen)]
        yield _folder_rate(bare, batches, files, f"scripts.explain, {len(chosen)} films as they are")


def _folder_rate(bare: BareModel, batches: Baseline, files: list[tuple[str, bytes]], name: str) -> Figure:
    """Measure the images per second from the first file to the finished contact sheet."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        for file, data in files:
            (folder / file).write_bytes(data)
        start = time.perf_counter()
        explain_folder(FolderJob(folder, Path(scratch) / "out", Question(), Style("jpeg")), bare.runtime)
        reached = len(files) / (time.perf_counter() - start)
    return Figure(name, reached, "images/s", reached / batches.remeasure(), "best bare batches")


def against_tutorial(entry: Path, bodies: list[bytes], explain_ms: float, rounds: int) -> Figure:
    """Measure the tutorial code with the same weights and images, relative to `/explain` with a PNG overlay."""
    explain = tutorial(entry)
    taken = median_ms(lambda i: explain(bodies[i % len(bodies)]), max(3, rounds // 4), "tutorial code")
    return Figure("the usual tutorial code, PNG overlay", taken, "ms", taken / explain_ms, "/explain")
