"""The models of a store, loaded on demand and replaced when the store changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.artifact.manifest import Manifest, read_manifest
from app.artifact.runtimes.base import Runtime
from app.artifact.store import Fingerprint, find_artifact, fingerprint, model_names, model_versions
from app.errors import ArtifactError, ArtifactNotFoundError, ModelNotLoadedError, ModelRefusedError, UnknownModelError
from app.serving.analyzer import Analyzer
from app.serving.interface import ModelState
from app.serving.loading import Loader, public_reason
from app.serving.model_cache import LoadedVersion, ModelCache
from app.serving.workers import Workers
from app.telemetry.metrics import Metrics


class Registry:
    """The models of a store, loaded on demand. Use it from one event loop; it loads models in its own thread.

    A model is served at its highest version that can be loaded, or at the pinned one. A new version is verified and
    warmed up while the old one still serves; then new requests go to the new version, and the old one leaves memory
    when its last request is done. A version that can't be loaded is refused with a reason, and tried again only after
    its files have changed.

    Args:
        store: the model store.
        name: the default model, which answers requests that name no model.
        pinned: the version of the default model; None for the highest.
        workers: the pool that reads the store. Loading has its own thread, so that a long load delays no listing.
        load: returns the runtime of a version folder, or raises `ArtifactError`.
        analyzer: returns the analyzer of a runtime.
        limit: the number of versions to keep in memory; the least recently used one is evicted, but neither the served
            version of the default model nor a version that is in use.
        metrics: the metrics of the application.
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
        self._analyzer = analyzer
        self._loader = Loader(store, load, metrics)
        self._cache = ModelCache(limit, metrics, on_removed=self._loader.collect_garbage)
        self._seen: dict[tuple[str, int], Fingerprint] = {}
        self._loading: dict[tuple[str, int | None], asyncio.Task[None]] = {}

    @property
    def ready(self) -> bool:
        """Whether the default model is loaded."""
        return self._cache.served(self._name) is not None

    def adopt(self, runtime: Runtime) -> None:
        """Serve `runtime`, which is loaded already, as the default model."""
        self._name = runtime.manifest.name
        self._cache.serve(self._add(runtime, None))

    async def start(self) -> None:
        """Load the default model.

        Raises:
            ArtifactError: if none of its versions can be loaded; the message says why the highest can't.
        """
        await self._refresh(self._name, settled_only=False)
        if self.ready:
            return
        if refused := self._loader.refusals(self._name):
            raise ArtifactError(f"version {max(refused)} of {self._name!r}: {refused[max(refused)]}")
        entry = await self._workers.run(lambda: find_artifact(self._store, self._name, self._pinned))
        await self._workers.run(lambda: read_manifest(entry))
        raise ArtifactNotFoundError(f"{entry} changed while it was being read")

    async def load_all(self) -> None:
        """Load the served version of every other model in the store, and log the refused ones."""
        for name in await self._workers.run(self._stored_names):
            if self._cache.served(name) is None:
                await self._refresh(name, settled_only=False)

    async def watch(self, interval_s: float) -> None:
        """Call `look` every `interval_s` seconds, forever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Check the store for new, changed and removed versions of the default model and of all served models.

        A new or changed version is loaded by the second call that finds it unchanged, because it may still be being
        copied.
        """
        for name in {self._name, *self._cache.served_names()}:
            await self._refresh(name, settled_only=True)

    @asynccontextmanager
    async def lease(self, name: str | None = None, version: int | None = None) -> AsyncIterator[Analyzer]:
        """Yield the analyzer of a model, which stays in memory during the block. Load it first if necessary.

        Args:
            name: the model; by default, the default model.
            version: its version; by default, the served one.

        Raises:
            UnknownModelError: if the store has no such model or version.
            ModelNotLoadedError: if the default model is not loaded yet.
            ModelRefusedError: if the model can't be loaded.
        """
        loaded = await self._get(name or self._name, version)
        try:
            with self._cache.lease(loaded) as analyzer:
                yield analyzer
        finally:
            self._cache.evict(keep=self._name)

    async def states(self) -> list[ModelState]:
        """Return the state of every model in the store or in memory, sorted by name."""
        stored = await self._workers.run(
            lambda: {name: model_versions(self._store, name) for name in self._stored_names()}
        )
        return [self._state(name, stored.get(name, [])) for name in sorted({*stored, *self._cache.served_names()})]

    async def state(self, name: str) -> ModelState:
        """Return the state of the model `name`, known or not."""
        return self._state(name, await self._stored_versions(name))

    async def manifest(self, name: str | None = None, version: int | None = None) -> Manifest:
        """Return the manifest of a model, by default of the default model, without loading the model.

        Raises:
            UnknownModelError: if the store has no such model or version.
            ModelRefusedError: if the manifest is missing or invalid.
        """
        name = name or self._name
        served = self._cache.served(name)
        if version is None and served is not None:
            return served.manifest
        versions = (await self.state(name)).versions
        if not versions or (version is not None and version not in versions):
            raise await self._unknown(name, version)
        number = version if version is not None else versions[-1]
        if (loaded := self._cache.get(name, number)) is not None:
            return loaded.manifest
        try:
            return await self._workers.run(lambda: read_manifest(self._store / name / str(number)))
        except ArtifactError as error:
            raise ModelRefusedError(public_reason(error, self._store)) from error

    def close(self) -> None:
        """Drop all models and stop the loading thread."""
        for task in self._loading.values():
            task.cancel()
        self._cache.clear()
        self._loader.close()

    async def _get(self, name: str, version: int | None) -> LoadedVersion:
        loaded = self._find(name, version)
        if loaded is None and (name, version) == (self._name, None):
            raise ModelNotLoadedError("the model is not loaded yet")
        if loaded is None:
            await self._load_once(name, version)
            loaded = self._find(name, version)
        if loaded is None:
            refused = self._loader.refusals(name)
            number = version if version is not None else max(refused, default=0)
            reason = refused.get(number, "its files have changed")
            raise ModelRefusedError(f"version {number} of {name!r} is refused: {reason}")
        return loaded

    def _find(self, name: str, version: int | None) -> LoadedVersion | None:
        return self._cache.served(name) if version is None else self._cache.get(name, version)

    async def _load_once(self, name: str, version: int | None) -> None:
        """Load a model. Concurrent requests for the same model share one load, which goes on if they are cancelled."""
        versions = await self._stored_versions(name)
        if not versions or (version is not None and version not in versions):
            raise await self._unknown(name, version)
        task = self._loading.get((name, version))
        if task is None:
            work = self._refresh(name, settled_only=False) if version is None else self._load_version(name, version)
            task = self._loading[name, version] = asyncio.create_task(work)
            task.add_done_callback(lambda _: self._loading.pop((name, version), None))
        await asyncio.shield(task)

    async def _load_version(self, name: str, version: int) -> None:
        found = await self._workers.run(lambda: fingerprint(self._store / name / str(version)))
        if found is None or self._loader.has_refused(name, version, found):
            return
        runtime = await self._loader.load(name, version, found)
        if runtime is not None:
            self._add(runtime, found)
            self._cache.evict(keep=self._name)

    async def _refresh(self, name: str, *, settled_only: bool) -> None:
        """Serve `name` at its highest version that can be loaded.

        Args:
            name: the model.
            settled_only: if the files of a version have changed since the last look, wait for the next one.
        """
        served = self._cache.served(name)
        versions = await self._workers.run(lambda: self._fingerprints(name))
        self._loader.forget_refusals(name, except_for=versions)
        for version, found in sorted(versions.items(), reverse=True):
            if served is not None and (served.manifest.version, served.fingerprint) == (version, found):
                return
            if self._loader.has_refused(name, version, found):
                if served is not None and served.manifest.version == version:
                    return  # the files were overwritten with broken ones; memory still has the good ones
                continue
            if settled_only and self._seen.get((name, version)) != found:
                self._seen[name, version] = found
                return
            runtime = await self._loader.load(name, version, found)
            if runtime is not None:
                self._cache.serve(self._add(runtime, found))
                self._cache.evict(keep=self._name)
                return

    def _add(self, runtime: Runtime, found: Fingerprint | None) -> LoadedVersion:
        return self._cache.add(self._analyzer(runtime), found)

    def _state(self, name: str, stored: list[int]) -> ModelState:
        served, loaded = self._cache.served(name), self._cache.versions(name)
        return ModelState(
            name=name,
            default=name == self._name,
            served=served.manifest.version if served else None,
            versions=sorted({*stored, *loaded}),
            loaded=loaded,
            refused=self._loader.refusals(name),
            device=served.analyzer.runtime.device if served else None,
        )

    def _fingerprints(self, name: str) -> dict[int, Fingerprint]:
        """Return the fingerprints of the complete versions of `name`, or of the pinned one only."""
        versions = model_versions(self._store, name)
        if name == self._name and self._pinned is not None:
            versions = [version for version in versions if version == self._pinned]
        found = {version: fingerprint(self._store / name / str(version)) for version in versions}
        return {version: each for version, each in found.items() if each is not None}

    def _stored_names(self) -> list[str]:
        return model_names(self._store) if self._store.is_dir() else []

    async def _stored_versions(self, name: str) -> list[int]:
        return await self._workers.run(lambda: model_versions(self._store, name))

    async def _unknown(self, name: str, version: int | None) -> UnknownModelError:
        versions = (await self.state(name)).versions
        if versions:
            return UnknownModelError(f"{name!r} has no version {version}; available: {versions}")
        names = {*await self._workers.run(self._stored_names), *self._cache.served_names()}
        return UnknownModelError(f"no model {name[:80]!r}; available: {', '.join(sorted(names)) or 'none'}")
