"""Which versions of which models are in memory, and which of them answers: load, swap, drain, refuse."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.artifact.manifest import Manifest, read_manifest
from app.artifact.runtimes.base import Runtime
from app.artifact.store import Fingerprint, find_artifact, fingerprint, model_names, model_versions
from app.errors import ArtifactError, ArtifactNotFoundError, ModelNotLoadedError, ModelRefusedError, UnknownModelError
from app.serving.analyzer import Analyzer
from app.serving.workers import Workers
from app.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Held:
    """A version in memory; it leaves once it is `retired` and its last request has been answered."""

    analyzer: Analyzer
    mark: Fingerprint | None
    leases: int = 0
    retired: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def manifest(self) -> Manifest:
        return self.analyzer.manifest


@dataclass(frozen=True, slots=True)
class _Refusal:
    mark: Fingerprint
    reason: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is known of one model.

    `default`: it answers when none is named; `served` is the version that answers then; `refused` has reasons.
    """

    name: str
    default: bool
    served: int | None
    versions: list[int]
    loaded: list[int]
    refused: dict[int, str]
    device: str | None


class Registry:
    """The models of a store, loaded when they are asked for, at most `limit` versions at a time.

    A model is served at its highest version that can be loaded (or at the pinned one). A version is loaded beside the
    one that it replaces, verified and warmed up; then new requests go to the new one, and the old one leaves when its
    last request has been answered. One that can't be loaded is refused with a reason, and not tried again until its
    files change. Use it from one event loop; loading happens in a thread of its own.

    Args:
        store: the model store.
        name: the model that answers when none is named.
        pinned: its version; None for the highest.
        workers: where the store is read; loading has a thread of its own, so that a long load delays no listing.
        load: gives the runtime of a version folder, or raises `ArtifactError`.
        analyzer: gives the analyzer of a runtime.
        limit: versions in memory; what was unused for longest makes room, what is in use never does.
        metrics: where loads and refusals are counted.
    """

    def __init__(
        self,
        store: Path,
        name: str,
        pinned: int | None,
        *,
        workers: Workers,
        load: Callable[[Path], Runtime],
        analyzer: Callable[[Runtime], Analyzer],
        limit: int,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._name = name
        self._pinned = pinned
        self._workers = workers
        self._load = load
        self._analyzer = analyzer
        self._limit = limit
        self._metrics = metrics
        self._held: dict[tuple[str, int], _Held] = {}
        self._served: dict[str, _Held] = {}
        self._refused: dict[tuple[str, int], _Refusal] = {}
        self._seen: dict[tuple[str, int], Fingerprint] = {}
        self._loading: dict[tuple[str, int | None], asyncio.Task[None]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")

    @property
    def ready(self) -> bool:
        """Whether a request that names no model can be answered."""
        return self._name in self._served

    def adopt(self, runtime: Runtime) -> None:
        """Serve `runtime`, which is loaded already, as the default model."""
        self._name = runtime.manifest.name
        self._serve(self._hold(runtime, None))

    async def start(self) -> None:
        """Load the default model.

        Raises:
            ArtifactError: none of its versions can be loaded; the message says why the highest can't.
        """
        await self._refresh(self._name, patient=False)
        if self.ready:
            return
        if refused := self._refusals(self._name):
            raise ArtifactError(f"version {max(refused)} of {self._name!r}: {refused[max(refused)]}")
        entry = await self._workers.run(lambda: find_artifact(self._store, self._name, self._pinned))
        await self._workers.run(lambda: read_manifest(entry))
        raise ArtifactNotFoundError(f"{entry} has changed while it was read")

    async def load_all(self) -> None:
        """Load every other model of the store at the version that it is served at; refusals are logged."""
        for name in await self._workers.run(self._names):
            if name not in self._served:
                await self._refresh(name, patient=False)

    async def watch(self, interval_s: float) -> None:
        """Look for new, changed and removed versions of what is served, every `interval_s` seconds, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Take note of what has changed in the store since the last look, and load what has not changed since then."""
        for name in {self._name, *self._served}:
            await self._refresh(name, patient=True)

    @asynccontextmanager
    async def lease(self, name: str | None = None, version: int | None = None) -> AsyncIterator[Analyzer]:
        """The analyzer of `name` (default: the default model) at `version` (default: the one it is served at).

        It stays in memory until the block ends, whatever is swapped meanwhile. One that is not in memory is loaded.

        Raises:
            UnknownModelError: the store has no such model or version.
            ModelNotLoadedError: it isn't loaded yet; the subclass `ModelRefusedError`: and won't be.
        """
        held = await self._get(name or self._name, version)
        held.leases += 1
        held.used = time.monotonic()
        try:
            yield held.analyzer
        finally:
            held.leases -= 1
            self._leave(held)
            self._make_room()

    async def states(self) -> list[ModelState]:
        """Every model of the store, and what is served beside it, by name."""
        stored = await self._workers.run(lambda: {name: model_versions(self._store, name) for name in self._names()})
        return [self._state(name, stored.get(name, [])) for name in sorted({*stored, *self._served})]

    async def state(self, name: str) -> ModelState:
        """What is known of the model `name`."""
        return self._state(name, await self._versions(name))

    def _state(self, name: str, stored: list[int]) -> ModelState:
        served = self._served.get(name)
        loaded = sorted(version for held_name, version in self._held if held_name == name)
        return ModelState(
            name=name,
            default=name == self._name,
            served=served.manifest.version if served else None,
            versions=sorted({*stored, *loaded}),
            loaded=loaded,
            refused=self._refusals(name),
            device=served.analyzer.runtime.device if served else None,
        )

    async def manifest(self, name: str, version: int | None = None) -> Manifest:
        """The manifest of a model, in memory or not.

        Raises:
            UnknownModelError: the store has no such model or version.
            ModelRefusedError: its manifest can't be read.
        """
        if version is None and name in self._served:
            return self._served[name].manifest
        versions = (await self.state(name)).versions
        if not versions or (version is not None and version not in versions):
            raise await self._unknown(name, version)
        number = version if version is not None else versions[-1]
        if (name, number) in self._held:
            return self._held[name, number].manifest
        try:
            return await self._workers.run(lambda: read_manifest(self._store / name / str(number)))
        except ArtifactError as error:
            raise ModelRefusedError(self._told(error)) from error

    def close(self) -> None:
        """Forget what is loaded, and let the loading thread end."""
        for task in self._loading.values():
            task.cancel()
        for held in list(self._held.values()):
            self._retire(held)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _get(self, name: str, version: int | None) -> _Held:
        held = self._find(name, version)
        if held is None and (name, version) == (self._name, None):
            raise ModelNotLoadedError("the model is not loaded (yet)")
        if held is None:
            await self._load_once(name, version)
            held = self._find(name, version)
        if held is None:
            refused = self._refusals(name)
            number = version if version is not None else max(refused, default=0)
            raise ModelRefusedError(f"version {number} of {name!r} is refused: {refused.get(number, 'it has changed')}")
        return held

    def _find(self, name: str, version: int | None) -> _Held | None:
        return self._served.get(name) if version is None else self._held.get((name, version))

    async def _load_once(self, name: str, version: int | None) -> None:
        """Load what a request asks for; requests that ask for the same wait together, and go without stopping it."""
        versions = await self._versions(name)
        if not versions or (version is not None and version not in versions):
            raise await self._unknown(name, version)
        task = self._loading.get((name, version))
        if task is None:
            work = self._refresh(name, patient=False) if version is None else self._load_version(name, version)
            task = self._loading[name, version] = asyncio.create_task(work)
            task.add_done_callback(lambda _: self._loading.pop((name, version), None))
        await asyncio.shield(task)

    async def _load_version(self, name: str, version: int) -> None:
        mark = await self._workers.run(lambda: fingerprint(self._store / name / str(version)))
        refusal = self._refused.get((name, version))
        if mark is None or (refusal is not None and refusal.mark == mark):
            return
        runtime = await self._loaded(name, version, mark)
        if runtime is not None:
            self._hold(runtime, mark)
            self._make_room()

    async def _refresh(self, name: str, *, patient: bool) -> None:
        """Bring `name` to the highest version that can be loaded.

        Args:
            name: the model.
            patient: leave alone what has changed since the last look; it may be half copied.
        """
        served = self._served.get(name)
        versions = await self._workers.run(lambda: self._survey(name))
        self._refused = {key: r for key, r in self._refused.items() if key[0] != name or key[1] in versions}
        for version, mark in sorted(versions.items(), reverse=True):
            if served is not None and (served.manifest.version, served.mark) == (version, mark):
                return
            refusal = self._refused.get((name, version))
            if refusal is not None and refusal.mark == mark:
                if served is not None and served.manifest.version == version:
                    return  # what is in memory is the good version that was there before
                continue
            if patient and self._seen.get((name, version)) != mark:
                self._seen[name, version] = mark
                return
            runtime = await self._loaded(name, version, mark)
            if runtime is not None:
                self._serve(self._hold(runtime, mark))
                self._make_room()
                return

    async def _loaded(self, name: str, version: int, mark: Fingerprint) -> Runtime | None:
        """The runtime of a version; None if it is refused, which is then known."""
        entry = self._store / name / str(version)
        log.info("loading version %d of %s", version, name)
        try:
            runtime = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, entry)
        except ArtifactError as error:
            reason = self._told(error)
        except Exception as error:  # the boundary: whatever a new version does, what is served goes on
            log.exception("version %d of %s failed while it was loaded", version, name)
            reason = f"it failed while it was loaded: {type(error).__name__}"
        else:
            self._metrics.model_loads.labels(name, str(version), "loaded").inc()
            return runtime
        self._metrics.model_loads.labels(name, str(version), "refused").inc()
        log.error("version %d of %s is refused: %s", version, name, reason)
        self._refused[name, version] = _Refusal(mark, reason)
        return None

    def _hold(self, runtime: Runtime, mark: Fingerprint | None) -> _Held:
        held = _Held(self._analyzer(runtime), mark)
        name, version = held.manifest.name, held.manifest.version
        previous = self._held.get((name, version))
        self._held[name, version] = held
        self._refused.pop((name, version), None)
        if previous is not None and self._served.get(name) is not previous:
            self._retire(previous)
        self._metrics.model_info.labels(name, str(version), runtime.device).set(1)
        self._metrics.model_memory.labels(name, str(version)).set(runtime.memory_bytes())
        return held

    def _serve(self, held: _Held) -> None:
        """From now on `held` answers for its model; what did before leaves after its last request."""
        name = held.manifest.name
        previous = self._served.get(name)
        self._served[name] = held
        log.info("serving version %d of %s on %s", held.manifest.version, name, held.analyzer.runtime.device)
        if previous is not None:
            self._retire(previous)

    def _retire(self, held: _Held) -> None:
        held.retired = True
        name, version = held.manifest.name, held.manifest.version
        if self._served.get(name) is held:
            del self._served[name]
        if self._held.get((name, version)) is held:
            del self._held[name, version]
            self._metrics.model_info.remove(name, str(version), held.analyzer.runtime.device)
            self._metrics.model_memory.remove(name, str(version))
        self._leave(held)

    def _leave(self, held: _Held) -> None:
        if held.retired and not held.leases:
            log.info("version %d of %s has left memory", held.manifest.version, held.manifest.name)
            # Graphs are full of reference cycles: without this their weights stay until some later collection.
            self._thread.submit(gc.collect)

    def _make_room(self) -> None:
        spare = [h for h in self._held.values() if not h.leases and h is not self._served.get(self._name)]
        for held in sorted(spare, key=lambda h: h.used)[: max(0, len(self._held) - self._limit)]:
            self._retire(held)

    def _survey(self, name: str) -> dict[int, Fingerprint]:
        """The complete versions of `name` that may be served."""
        versions = model_versions(self._store, name)
        if name == self._name and self._pinned is not None:
            versions = [version for version in versions if version == self._pinned]
        marks = {version: fingerprint(self._store / name / str(version)) for version in versions}
        return {version: mark for version, mark in marks.items() if mark is not None}

    def _names(self) -> list[str]:
        return model_names(self._store) if self._store.is_dir() else []

    async def _versions(self, name: str) -> list[int]:
        return await self._workers.run(lambda: model_versions(self._store, name))

    def _refusals(self, name: str) -> dict[int, str]:
        """By version, why it can't be loaded."""
        return {number: r.reason for (refused, number), r in sorted(self._refused.items()) if refused == name}

    async def _unknown(self, name: str, version: int | None) -> UnknownModelError:
        versions = (await self.state(name)).versions
        if versions:
            return UnknownModelError(f"no version {version} of {name!r}; there are: {versions}")
        known = ", ".join(sorted({*await self._workers.run(self._names), *self._served})) or "none"
        return UnknownModelError(f"no model {name[:80]!r}; there are: {known}")

    def _told(self, error: ArtifactError) -> str:
        """Why a version is refused, without where the store lies."""
        return str(error).replace(f"{self._store}/", "")
