"""The number of processor cores that this process may use, which a container can limit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """Return the smaller of this process's CPU affinity and its control group's quota, at least 1.

    A quota of one and a half cores counts as two. Supports both versions of control groups (Linux kernel
    documentation, cgroup-v2, "cpu.max"; cgroup-v1, "CFS bandwidth control").

    Args:
        root: the folder that contains `proc` and `sys`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of this process's control group and of its ancestors."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                quota, _, period = _text(folder / "cpu.max").partition(" ")
                if quota.isdigit():
                    yield int(quota) / int(period)
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup/cpu", path):
                quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
                if quota.strip().isdigit():  # -1 means no quota
                    yield int(quota) / int(period)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a control group, then its ancestors up to `mount`.

    In a container only the mount itself may exist; it is the process's own group then.
    """
    inner = PurePosixPath(path).relative_to("/")
    yield mount / inner
    for parent in inner.parents:
        yield mount / parent


def _text(path: Path) -> str:
    """Read `path`; return an empty string if it does not exist, as on systems other than Linux."""
    return path.read_text(encoding="ascii") if path.is_file() else ""
