"""`make up` with stand-ins for Docker and nvidia-smi: which service it starts, where, and what it says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

DOCKER = """#!/bin/sh
case "$1 $2" in
    "info ") exit "${ENGINE:-0}" ;;
    "info --format") printf 'io.containerd.runc.v2\\nrunc\\n%s' "$RUNTIME" ;;
    "compose up") echo "started $3 at cpu=$LIGHTBOX_PORT gpu=$LIGHTBOX_GPU_PORT" ;;
    *) echo "unexpected: $*" >&2; exit 64 ;;
esac
"""
RUNTIME = {"RUNTIME": "nvidia\n"}
GPU = "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\n"
NO_DRIVER = "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9\n"


@pytest.fixture
def up(tmp_path):
    """Runs `make up` with a Docker, and, where given, an nvidia-smi on the path."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "sh", "sed", "grep"):
        (tools / tool).symlink_to(shutil.which(tool))

    def run(smi=None, **environment):
        for name, script in (("docker", DOCKER), ("nvidia-smi", smi)):
            if script is not None:
                (tools / name).write_text(script)
                (tools / name).chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIGHTBOX", "MAKE"))}
        return subprocess.run(
            [tools / "make", "up"],
            cwd=tmp_path,
            env=clean | {"PATH": str(tools)} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_machine_with_a_gpu_serves_on_it(up):
    """On the port that the CPU's service would have had."""
    done = up(GPU, **RUNTIME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Lightbox serves on the GPU: http://localhost:8000",
        "started lightbox-gpu at cpu=8000 gpu=8000",
    ]


@pytest.mark.parametrize(
    ("smi", "environment"),
    [(None, {}), (None, RUNTIME), (GPU, {}), (NO_DRIVER, RUNTIME)],
    ids=["neither", "no nvidia-smi", "no runtime", "no driver"],
)
def test_every_other_machine_serves_on_the_cpu(up, smi, environment):
    """Docker needs the runtime, and the runtime a GPU that answers."""
    done = up(smi, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Lightbox serves on the CPU: http://localhost:8000",
        "started lightbox at cpu=8000 gpu=8000",
    ]


@pytest.mark.parametrize("smi", [None, GPU])
def test_the_port_is_the_one_that_is_set(up, tmp_path, smi):
    """In Compose's file of variables, or in the environment, which wins."""
    (tmp_path / ".env").write_text("LIGHTBOX_LOG_LEVEL=info\nLIGHTBOX_PORT=9001\n")
    assert "http://localhost:9001" in up(smi, **RUNTIME).stdout
    done = up(smi, LIGHTBOX_PORT="9002", **RUNTIME)
    assert "http://localhost:9002" in done.stdout
    assert "cpu=9002 gpu=9002" in done.stdout


def test_without_an_engine_it_says_what_it_needs(up):
    """And starts nothing."""
    done = up(ENGINE="1")
    assert done.returncode != 0
    assert "needs a running Docker engine" in done.stderr
    assert "started" not in done.stdout
