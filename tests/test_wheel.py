"""The wheel that the project builds: installed elsewhere, it serves, its page and its report templates included."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE_TENSORFLOW = """
import importlib.util, io, json, sys
from PIL import Image
from starlette.testclient import TestClient
import app
from app.main import create_app
from app.settings import Settings
sys.path.append(sys.argv[1])
from tests.doubles import BrightnessRuntime

buffer = io.BytesIO()
Image.new("L", (30, 20), 255).save(buffer, "PNG")
with TestClient(create_app(Settings(), BrightnessRuntime())) as client:
    answer = client.post("/explain?faithfulness=true", content=buffer.getvalue()).json()
    page = client.get("/", headers={"accept": "text/html"})
    tables = client.get("/static/colormaps.json").json()
print(json.dumps({
    "where": app.__file__,
    "tensorflow": importlib.util.find_spec("tensorflow") is not None,
    "label": answer["label"],
    "receipt": answer["receipt"],
    "page": page.text[:15],
    "policy": page.headers["content-security-policy"],
    "tables": len(tables),
    "loaded": sorted(name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")),
}))
"""
TEMPLATES = """
from jinja2 import PackageLoader
for package in ("scripts.batch", "scripts.evaluation"):
    print(*PackageLoader(package).list_templates())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without a network, from a copy that leaves out what a build would leave behind."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in ("app", "scripts"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", copy / "dist", copy], check=True)
    (built,) = (copy / "dist").glob("lightbox-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with this one's packages, except TensorFlow and Keras, and the wheel; its interpreter."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.lower().startswith(("tensorflow", "keras", "lightbox", "__editable__", "_virtualenv")):
            (site / entry.name).symlink_to(entry)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return folder / "bin" / "python"


def run(python, code, *arguments):
    """What `code` prints, run where the sources are not."""
    return subprocess.run(
        [python, "-c", code, *arguments], cwd=python.parent, capture_output=True, text=True, check=True, env=_clean()
    ).stdout


def _clean():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIGHTBOX"))}


def test_the_wheel_serves_without_tensorflow(environment):
    """Over a runtime of another library, whose name and version the receipt records."""
    told = json.loads(run(environment, OUTSIDE_TENSORFLOW, str(ROOT)))
    assert str(environment.parents[1]) in told["where"]
    assert not told["tensorflow"]
    assert told["loaded"] == []
    assert told["label"] == "bright"
    assert (told["receipt"]["library"], told["receipt"]["library_version"]) == ("arithmetic", "1.0")
    assert told["receipt"]["tensorflow"] is None
    assert told["page"] == "<!doctype html>"
    assert "script-src 'self'" in told["policy"]
    assert told["tables"] == 9


def test_the_wheel_has_its_templates(environment):
    """Jinja finds those of the contact sheet and of the report."""
    assert run(environment, TEMPLATES).split() == [
        "contact_sheet.html",
        "films.html",
        "multi_label.html",
        "report.html",
    ]


def test_the_wheel_holds_packages_and_their_data_and_nothing_else(wheel):
    """No tests, no model."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"app", "scripts"}
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    assert {path.relative_to(ROOT).as_posix() for path in sources} <= set(names)
