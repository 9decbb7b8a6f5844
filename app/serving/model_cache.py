"""The model versions in memory: which one is served, which are in use, and which are evicted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.artifact.manifest import Manifest
from app.artifact.store import Fingerprint
from app.serving.analyzer import Analyzer
from app.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LoadedVersion:
    """A version in memory. Once it is `retired`, it leaves memory when its last request is done.

    `fingerprint` is that of its files when it was loaded, or None if it comes from no store. `used` is when a request
    last used it, in seconds of the monotonic clock.
    """

    analyzer: Analyzer
    fingerprint: Fingerprint | None
    leases: int = 0
    retired: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def manifest(self) -> Manifest:
        return self.analyzer.manifest

    @property
    def key(self) -> tuple[str, int]:
        """Name and version."""
        return self.manifest.name, self.manifest.version


class ModelCache:
    """The versions in memory, of which each model serves at most one. Use it from one event loop.

    Args:
        limit: the number of versions to keep. Versions that are in use are kept even above the limit.
        metrics: the metrics of the application.
        on_removed: called after a version has left memory.
    """

    def __init__(self, limit: int, metrics: Metrics, on_removed: Callable[[], None]) -> None:
        self._limit = limit
        self._metrics = metrics
        self._on_removed = on_removed
        self._loaded: dict[tuple[str, int], LoadedVersion] = {}
        self._served: dict[str, LoadedVersion] = {}

    def served(self, name: str) -> LoadedVersion | None:
        """Return the version that answers requests for the model `name`, or None if there is none."""
        return self._served.get(name)

    def served_names(self) -> set[str]:
        """Return the names of the models that have a served version."""
        return set(self._served)

    def get(self, name: str, version: int) -> LoadedVersion | None:
        """Return `version` of `name`, or None if it is not in memory."""
        return self._loaded.get((name, version))

    def versions(self, name: str) -> list[int]:
        """Return the versions of `name` in memory, ascending."""
        return sorted(version for loaded_name, version in self._loaded if loaded_name == name)

    def add(self, analyzer: Analyzer, fingerprint: Fingerprint | None) -> LoadedVersion:
        """Add a version. If the same version is in memory already, replace it."""
        loaded = LoadedVersion(analyzer, fingerprint)
        name, version = loaded.key
        previous = self._loaded.get(loaded.key)
        self._loaded[loaded.key] = loaded
        if previous is not None and self._served.get(name) is not previous:
            self._retire(previous)
        runtime = analyzer.runtime
        self._metrics.model_info.labels(name, str(version), runtime.device).set(1)
        self._metrics.model_memory.labels(name, str(version)).set(runtime.memory_bytes())
        return loaded

    def serve(self, loaded: LoadedVersion) -> None:
        """Send new requests for its model to `loaded`, and retire the version that answered them before."""
        name, version = loaded.key
        previous = self._served.get(name)
        self._served[name] = loaded
        log.info("serving version %d of %s on %s", version, name, loaded.analyzer.runtime.device)
        if previous is not None:
            self._retire(previous)

    @contextmanager
    def lease(self, loaded: LoadedVersion) -> Iterator[Analyzer]:
        """Keep `loaded` in memory during the block."""
        loaded.leases += 1
        loaded.used = time.monotonic()
        try:
            yield loaded.analyzer
        finally:
            loaded.leases -= 1
            self._remove_if_unused(loaded)

    def evict(self, keep: str) -> None:
        """Evict the least recently used versions above the limit, but never the served version of the model `keep`."""
        unused = [each for each in self._loaded.values() if not each.leases and each is not self._served.get(keep)]
        for loaded in sorted(unused, key=lambda each: each.used)[: max(0, len(self._loaded) - self._limit)]:
            self._retire(loaded)

    def clear(self) -> None:
        """Retire all versions."""
        for loaded in list(self._loaded.values()):
            self._retire(loaded)

    def _retire(self, loaded: LoadedVersion) -> None:
        loaded.retired = True
        name, version = loaded.key
        if self._served.get(name) is loaded:
            del self._served[name]
        if self._loaded.get(loaded.key) is loaded:
            del self._loaded[loaded.key]
            self._metrics.model_info.remove(name, str(version), loaded.analyzer.runtime.device)
            self._metrics.model_memory.remove(name, str(version))
        self._remove_if_unused(loaded)

    def _remove_if_unused(self, loaded: LoadedVersion) -> None:
        if loaded.retired and not loaded.leases:
            name, version = loaded.key
            log.info("version %d of %s has left memory", version, name)
            self._on_removed()
