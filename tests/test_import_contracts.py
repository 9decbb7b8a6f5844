"""The import contracts hold, and each of them fails where it is broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# By contract: a module, and an import that it must not have.
VIOLATIONS = {
    "In app, arrows point down only": ("app/imaging/geometry.py", "import app.serving.workers"),
    "In scripts, arrows point down only": ("scripts/evaluation/statistics.py", "import scripts.training.recipe"),
    "Modules beside each other form no cycle": ("app/imaging/geometry.py", "import app.imaging.decoding"),
    "The service never imports the offline side": ("app/serving/workers.py", "import scripts.errors"),
    "FastAPI appears only where the HTTP interface is put together": ("app/api/upload.py", "import fastapi"),
    "TensorFlow and Keras appear only in their runtime and in the offline side": (
        "app/explain/cams.py",
        "import tensorflow",
    ),
    "Ray appears only in the cluster": ("app/serving/workers.py", "import ray"),
    "gRPC appears only in its own package, which nothing else needs": ("app/api/protocols/inference.py", "import grpc"),
}


def lint(folder: Path) -> str:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path):
    """The sources elsewhere, to be spoilt."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("app", "scripts"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("static", "__pycache__"))
    return tmp_path


def test_the_contracts_hold(copy):
    """All of them, and there are no others than are broken below."""
    output = lint(copy)
    assert [name for name in VIOLATIONS if f"{name} KEPT" not in output] == []
    assert f"Contracts: {len(VIOLATIONS)} kept, 0 broken." in output


@pytest.mark.parametrize("contract", VIOLATIONS)
def test_a_planted_import_breaks_its_contract(copy, contract):
    """One line is enough."""
    path, line = VIOLATIONS[contract]
    text = (copy / path).read_text()
    (copy / path).write_text(
        text.replace("from __future__ import annotations\n", f"from __future__ import annotations\n{line}\n")
    )
    assert f"{contract} BROKEN" in lint(copy)
