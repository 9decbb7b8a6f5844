"""How many processor cores this process may use, which in a container is not how many the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """The cores of this process's affinity, or of its control group's quota, whichever are fewer; at least 1.

    A quota of one and a half cores counts as two. Both versions of control groups are understood (Linux kernel
    documentation, cgroup-v2, "cpu.max"; cgroup-v1, "CFS bandwidth control").

    Args:
        root: where `proc` and `sys` are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's control group and of all above it."""
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
                if quota.strip().isdigit():  # -1: none
                    yield int(quota) / int(period)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a control group, then those above it up to `mount`.

    Inside a container only the mount itself may exist, and then it is the process's own group.
    """
    inner = PurePosixPath(path).relative_to("/")
    yield mount / inner
    for parent in inner.parents:
        yield mount / parent


def _text(path: Path) -> str:
    """What `path` holds; nothing where it isn't there, as on other systems than Linux."""
    return path.read_text(encoding="ascii") if path.is_file() else ""
