"""Setting up on a fresh machine: the Makefile's own recipes, with an index and interpreters that the tests make."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def wheel(index: Path, name: str, version: str, *, requires: str = "") -> str:
    """Put a wheel with nothing but metadata into a package index (PEP 503), and return its line in a lock."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: toml\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    links = "".join(f'<a href="{file.name}">{file.name}</a>' for file in sorted(folder.glob("*.whl")))
    (folder / "index.html").write_text(links)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the project's Makefile in `folder`, with no pip configuration but the one given."""
    shutil.copy(ROOT / "Makefile", folder)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=inherited | {"PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_setup_installs_what_is_locked_although_the_index_has_newer_releases(tmp_path):
    index = tmp_path / "index"
    reporter = wheel(index, "reporter", "1.0", requires="coverage[toml]>=1.0")
    coverage = wheel(index, "coverage", "1.0")
    (tmp_path / "requirements.lock").write_text(reporter + coverage.replace("==", "[toml]=="))
    wheel(index, "coverage", "1.1")

    done = make(tmp_path, ".venv/serve.stamp", f"PYTHON={sys.executable}", PIP_INDEX_URL=index.as_uri())

    assert done.returncode == 0, done.stderr
    freeze = [tmp_path / ".venv/bin/python", "-m", "pip", "freeze"]
    assert subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.split() == [
        "coverage==1.0",
        "reporter==1.0",
    ]


def test_setup_fails_where_the_lock_lacks_what_a_package_requires(tmp_path):
    index = tmp_path / "index"
    (tmp_path / "requirements.lock").write_text(wheel(index, "reporter", "1.0", requires="coverage>=1.0"))

    done = make(tmp_path, ".venv/serve.stamp", f"PYTHON={sys.executable}", PIP_INDEX_URL=index.as_uri())

    assert done.returncode != 0
    assert "reporter 1.0 requires coverage, which is not installed" in done.stdout


def test_setup_refuses_a_package_with_another_digest(tmp_path):
    index = tmp_path / "index"
    line = wheel(index, "reporter", "1.0")
    (tmp_path / "requirements.lock").write_text(re.sub("sha256:.*", f"sha256:{'0' * 64}", line))

    done = make(tmp_path, ".venv/serve.stamp", f"PYTHON={sys.executable}", PIP_INDEX_URL=index.as_uri())

    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def interpreter(folder: Path, name: str, version: tuple[int, int]) -> None:
    """A stand-in for Python `version` on a path: it runs the code it is given, under that version's number."""
    script = folder / name
    shown = f"Python {version[0]}.{version[1]}.0"
    code = "import sys; sys.version_info = ({}, {}, 0); exec(sys.argv[1])".format(*version)
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{shown}"; exit; fi\n'
        f'if [ "$1" = -c ]; then exec {sys.executable} -c \'{code}\' "$2"; fi\n'
        f'echo "{name} was called: $*"; exit 3\n'
    )
    script.chmod(0o755)


def path_of(folder: Path, tools: tuple[str, ...] = ("make", "sh", "echo", "touch")) -> str:
    """A folder to use as the whole PATH: `tools` of this machine, and what is put into it besides."""
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.skip(f"needs {tool}"))
    return str(folder)


def test_make_takes_a_supported_python_where_python3_is_too_new(tmp_path):
    path = path_of(tmp_path / "bin")
    interpreter(tmp_path / "bin", "python3", (3, 14))
    interpreter(tmp_path / "bin", "python3.12", (3, 12))

    done = make(tmp_path, ".venv/venv.stamp", PATH=path)

    assert "python3.12 was called: -m venv .venv" in done.stdout


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_make_says_what_is_missing_where_no_python_is_supported(tmp_path, version):
    path = path_of(tmp_path / "bin")
    interpreter(tmp_path / "bin", "python3", version)

    done = make(tmp_path, ".venv/venv.stamp", PATH=path)

    assert done.returncode != 0
    assert "Lightbox needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert f"Found: Python 3.{version[1]}.0" in done.stderr
    assert not (tmp_path / ".venv").exists()
