"""Ray on this machine alone."""

from __future__ import annotations

import logging
import os
import secrets
from typing import Any

log = logging.getLogger(__name__)

_STARTS = 4
_OBJECT_STORE_BYTES = 512 * 2**20


def prepare_environment() -> None:
    """Set the environment variables that Ray reads when it is imported."""
    # The switch has the name of the systems where it is off by default: Ray then talks over the loopback interface.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without it, Ray leaves a file with a token in the home directory.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def start(cpus: int, *, dashboard: bool = False, **options: Any) -> bool:
    """Start Ray with `cpus` CPUs to reserve, and `options` of `ray.init`; return False if it can't be started.

    Ray gives its processes fifteen seconds, which no option changes and a busy machine exceeds; so it is tried again.
    """
    import ray  # noqa: PLC0415  # it reads the environment

    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(num_cpus=cpus, include_dashboard=dashboard, object_store_memory=_OBJECT_STORE_BYTES, **options)
        except Exception as error:  # noqa: BLE001  # Ray raises nothing more specific
            log.warning("Ray did not start (attempt %d of %d): %s", attempt, _STARTS, error)
            ray.shutdown()
        else:
            return True
    return False
