"""How many cores a process may use, by what the kernel says of its control group."""

import os

import pytest

from app.telemetry.cores import available_cores


def machine(tmp_path, files):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "90000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
    ids=["version 2", "half a core", "the group above", "version 1"],
)
def test_a_quota_limits_the_cores(tmp_path, files, quota):
    """Also one that holds for a group above, and one of less than a core."""
    assert available_cores(machine(tmp_path, files)) == quota


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"},
        {"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"},
    ],
    ids=["no control groups", "no quota", "a quota above the machine", "no quota, version 1"],
)
def test_otherwise_the_affinity_counts(tmp_path, files):
    """What the scheduler allows this process."""
    assert available_cores(machine(tmp_path, files)) == len(os.sched_getaffinity(0))
