"""The endurance test: thousands of mixed requests to one server process, and what they leave behind in it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from app.artifact.manifest import Manifest, read_manifest
from app.artifact.store import find_artifact
from app.explain.cams import METHODS
from app.imaging.overlay import COLORMAPS
from app.settings import Settings
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.load import Server, served
from scripts.errors import ScriptError

CLIENTS = 4
# One request in ten is bad, and the client of one in fifty hangs up.
_BAD, _HANG_UP = 0.1, 0.02
_SIDES = (64, 320, 700, 1024, 1500)
_KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
_PICTURES = 60
# The probe's request is always the same, so that its latency can be compared.
_PROBES = 60
_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the status that is right for it. With `hang_up`, its client does not wait for the answer."""

    path: str
    body: bytes
    content_type: str
    accept: str
    expected: int
    hang_up: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": self.content_type, "accept": self.accept}


@dataclass(frozen=True, slots=True)
class State:
    """What an idle server process holds: bytes of memory, open files and threads; and the latencies of the probe."""

    resident: int
    files: int
    threads: int
    latencies_ms: list[float]


@dataclass(slots=True)
class _Tally:
    """The requests that were sent, those that got another status than the right one, and the versions that answered."""

    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)


def soak(settings: Settings, requests: int, seed: int = 0) -> Iterator[Figure]:
    """Send `requests` requests of every kind, swap the model's version twice, and yield what has changed in the server.

    A tenth of the requests is bad, and some clients hang up. The state after a tenth of the requests is compared with
    that after all of them. The versions are copies of the model of `settings` in a store of its own.

    Raises:
        ArtifactError: the model can't be found.
        ScriptError: a request got a status that is not the right one for it, or a version never answered.
        httpx.HTTPError: the server did not answer.
    """
    entry = find_artifact(settings.model_store, settings.model, settings.model_version)
    manifest = read_manifest(entry)
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch)
        _publish(entry, store / settings.model / "1")
        with served(settings.model_copy(update={"model_store": store, "model_version": None})) as server:
            cases = _cases(manifest, seed)
            tally, early = _Tally(), max(1, requests // 10)
            parts = [(early, None), (requests // 3 - early, 2), (requests // 3, 3)]
            parts.append((requests - sum(count for count, _ in parts), None))
            states: list[State] = []
            for count, version in parts:
                asyncio.run(_send(server, cases, count, tally))
                if tally.wrong:
                    wrong = f"{len(tally.wrong)} of {tally.sent} requests got another status"
                    raise ScriptError(f"{wrong}: {'; '.join(tally.wrong[:5])}")
                if not states:
                    states.append(_state(server))
                if version is not None:
                    _publish(entry, store / settings.model / str(version))
                    _wait_for_version(server, settings.model, version)
            states.append(_state(server))
    if tally.versions != {1, 2, 3}:
        raise ScriptError(f"the versions {sorted(tally.versions)} answered, instead of 1, 2 and 3")
    yield from _figures(states[0], states[1], early, tally)


def _publish(entry: Path, target: Path) -> None:
    """Copy `entry` to `target`, which appears as a whole."""
    partial = target.parent / f".{target.name}"
    shutil.copytree(entry, partial)
    partial.rename(target)


def _wait_for_version(server: Server, name: str, version: int, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while httpx.get(f"{server.url}/models/{name}").raise_for_status().json()["version"] != version:
        if time.monotonic() > deadline:
            raise ScriptError(f"version {version} was not served within {limit_s:g} s")
        time.sleep(0.2)


def _figures(first: State, last: State, early: int, tally: _Tally) -> Iterator[Figure]:
    sent, after = tally.sent, f"after {early}"
    yield Figure(f"soak: resident memory after {early} requests", first.resident / 1e6, "MB")
    ratio = last.resident / first.resident
    yield Figure(f"soak: resident memory after {sent} requests", last.resident / 1e6, "MB", ratio, after)
    for name in ("files", "threads"):
        before, now = getattr(first, name), getattr(last, name)
        yield Figure(f"soak: open {name} after {sent} requests", now, name, now / before, after)
    before_ms, now_ms = statistics.median(first.latencies_ms), statistics.median(last.latencies_ms)
    yield Figure(f"soak: /explain p50 after {sent} requests", now_ms, "ms", now_ms / before_ms, after)
    quartiles = np.quantile(first.latencies_ms, (0.25, 0.75))
    yield Figure(f"soak: /explain p25 to p75 {after} requests", float(np.ptp(quartiles)), "ms")


def _state(server: Server) -> State:
    """Measure the server when all its requests have ended."""
    body = _encoded(_picture(np.random.default_rng(0), 1024), "JPEG")
    latencies = []
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for _ in tqdm(range(_PROBES), desc="soak: probe", unit="request", leave=False):
            start = time.perf_counter()
            client.post("/explain?format=jpeg", content=body).raise_for_status()
            latencies.append(1000 * (time.perf_counter() - start))
    time.sleep(_SETTLE_S)  # the connections of the clients end
    process = server.process
    return State(process.memory_info().rss, process.num_fds(), process.num_threads(), latencies)


async def _send(server: Server, cases: Iterator[Case], count: int, tally: _Tally) -> None:
    """Send `count` of the cases by concurrent clients, each one after another."""
    remaining = iter(tqdm(range(count), desc="soak", unit="request"))
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:

        async def clients_work() -> None:
            for _ in remaining:
                case = next(cases)
                tally.sent += 1
                if case.hang_up:
                    await asyncio.to_thread(_hang_up, server.url, case)
                    continue
                answer = await client.post(case.path, content=case.body, headers=case.headers)
                _record(tally, case, answer)

        await asyncio.gather(*(clients_work() for _ in range(CLIENTS)))


def _record(tally: _Tally, case: Case, answer: httpx.Response) -> None:
    if answer.status_code != case.expected:
        tally.wrong.append(f"{case.path} gave {answer.status_code} instead of {case.expected}: {answer.text[:200]}")
    elif answer.status_code == httpx.codes.OK and answer.headers["content-type"] == "application/json":
        tally.versions.add(answer.json()["model"]["version"])


def _hang_up(url: str, case: Case) -> None:
    """Send a request, and reset the connection instead of waiting for the answer."""
    address = httpx.URL(url)
    head = f"POST {case.path} HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: {len(case.body)}\r\n\r\n"
    with socket.create_connection((address.host, address.port or 80), timeout=20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(head.encode() + case.body)


def _cases(manifest: Manifest, seed: int) -> Iterator[Case]:
    """Yield requests of every kind for the model of `manifest`, without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    pictures = [_encoded(_picture(rng, int(rng.choice(_SIDES))), str(rng.choice(_KINDS))) for _ in range(_PICTURES)]
    while True:
        body, draw = pictures[rng.integers(len(pictures))], rng.random()
        if draw < _BAD:
            yield _bad_case(rng, body)
        else:
            yield _good_case(rng, body, manifest, hang_up=draw < _BAD + _HANG_UP)


def _picture(rng: np.random.Generator, side: int) -> Image.Image:
    """Return a smooth grey or coloured picture, of which one side has `side` pixels."""
    size = (side, int(side * rng.uniform(0.6, 1.0)))
    coarse = Image.fromarray(rng.integers(20, 235, (9, 9, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return coarse.convert("L") if rng.random() < 0.7 else coarse


def _encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def _good_case(rng: np.random.Generator, image: bytes, manifest: Manifest, *, hang_up: bool) -> Case:
    options: dict[str, Any] = {}
    path, accept = "/explain", "application/json"
    if rng.random() < 0.1:
        path = "/predict"
    else:
        options = _options(rng, manifest.classes)
        accept = str(rng.choice(["application/json", "image/png", "image/jpeg", "image/webp", "application/x-npy"]))
        if accept == "application/json" and rng.random() < 0.5:
            options["overlay"] = "false"
    query = httpx.QueryParams(options)
    if rng.random() < 0.2:
        document = b'{"image": "%s"}' % base64.b64encode(image)
        return Case(f"{path}?{query}", document, "application/json", accept, 200, hang_up)
    if rng.random() < 0.2:
        request = httpx.Request("POST", "http://form", files={"file": ("film", image)}, data=options)
        return Case(path, request.read(), request.headers["content-type"], accept, 200, hang_up)
    return Case(f"{path}?{query}", image, "application/octet-stream", accept, 200, hang_up)


def _options(rng: np.random.Generator, classes: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "method": str(rng.choice(sorted(METHODS))),
        "colormap": str(rng.choice(sorted(COLORMAPS))),
        "format": str(rng.choice(["png", "jpeg", "webp"])),
        "alpha": f"{rng.random():.2f}",
    }
    if METHODS[options["method"]].class_specific and rng.random() < 0.3:
        one, other = rng.choice(list(classes[:50]), 2, replace=False)
        options["class"] = str(one)
        if rng.random() < 0.5:
            options["against"] = str(other)
    return options


def _bad_case(rng: np.random.Generator, image: bytes) -> Case:
    raw = "application/octet-stream"
    cases = [
        Case("/explain", b"", raw, "*/*", 400),
        Case("/explain", b"this is no image, by its first bytes", raw, "*/*", 415),
        Case("/explain", b'{"image": "', "application/json", "*/*", 400),
        Case("/explain", b"\x89PNG\r\n\x1a\n" + image[:40], raw, "*/*", 422),
        Case("/explain?class=no-such-class", image, raw, "*/*", 422),
        Case("/explain?method=no-such-method", image, raw, "*/*", 422),
        Case("/explain?alpha=2", image, raw, "*/*", 422),
        Case("/explain?no=such", image, raw, "*/*", 422),
        Case("/explain?model=no-such-model", image, raw, "*/*", 404),
        Case("/explain", image, raw, "audio/mpeg", 406),
    ]
    return cases[rng.integers(len(cases))]
