"""Loading of model versions in a background thread, and the refusal of those that can't be loaded."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from app.artifact.runtimes.base import Runtime
from app.artifact.store import Fingerprint
from app.errors import ArtifactError
from app.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    fingerprint: Fingerprint
    reason: str


class Loader:
    """Loads versions of a store, one at a time, and remembers why it refused a version.

    Args:
        store: the model store.
        load: returns the runtime of a version folder, or raises `ArtifactError`.
        metrics: the metrics of the application.
    """

    def __init__(self, store: Path, load: Callable[[Path], Runtime], metrics: Metrics) -> None:
        self._store = store
        self._load = load
        self._metrics = metrics
        self._refused: dict[tuple[str, int], _Refusal] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")

    async def load(self, name: str, version: int, fingerprint: Fingerprint) -> Runtime | None:
        """Load the runtime of a version. If it can't be loaded, record the reason and return None."""
        log.info("loading version %d of %s", version, name)
        try:
            entry = self._store / name / str(version)
            runtime = await asyncio.get_running_loop().run_in_executor(self._thread, self._load, entry)
        except ArtifactError as error:
            reason = public_reason(error, self._store)
        except Exception as error:  # whatever a new version raises, the old one goes on serving
            log.exception("loading version %d of %s failed", version, name)
            reason = f"loading failed: {type(error).__name__}"
        else:
            self._refused.pop((name, version), None)
            self._metrics.model_loads.labels(name, str(version), "loaded").inc()
            return runtime
        self._metrics.model_loads.labels(name, str(version), "refused").inc()
        log.error("version %d of %s is refused: %s", version, name, reason)
        self._refused[name, version] = _Refusal(fingerprint, reason)
        return None

    def has_refused(self, name: str, version: int, fingerprint: Fingerprint) -> bool:
        """Return whether the version was refused with exactly these files."""
        refusal = self._refused.get((name, version))
        return refusal is not None and refusal.fingerprint == fingerprint

    def refusals(self, name: str) -> dict[int, str]:
        """Return the refused versions of `name`, ascending, each with the reason."""
        return {version: r.reason for (refused, version), r in sorted(self._refused.items()) if refused == name}

    def forget_refusals(self, name: str, *, except_for: Container[int]) -> None:
        """Forget the refusals of `name`, except for those of the given versions."""
        self._refused = {key: r for key, r in self._refused.items() if key[0] != name or key[1] in except_for}

    def collect_garbage(self) -> None:
        """Free the memory of removed models: their graphs contain many reference cycles."""
        self._thread.submit(gc.collect)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def public_reason(error: ArtifactError, store: Path) -> str:
    """Return the message of `error` without the path of the store."""
    return str(error).replace(f"{store}/", "")
