"""Tiny backbones, a data folder and a finished training run, which several tests share."""

import contextlib
import importlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.films import write_table


def pytest_itemcollected(item):
    if "trained_run" in item.fixturenames:
        item.add_marker("slow")


@pytest.fixture(scope="session")
def tiny_backbones():
    """Recipes may name the backbones of `tests.tiny`."""
    tiny = importlib.import_module("tests.tiny")
    tiny.register()
    yield
    tiny.unregister()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data folder of 40 bright and dark films of 20 patients."""
    return write_table(tmp_path_factory.mktemp("data"), patients=20, films_each=2)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of `scripts.train`: its options besides the folders, the artefact, the work folder, its output."""

    options: list[str]

    entry: Path
    work: Path
    printed: str


@pytest.fixture(scope="session")
def trained_run(request, data, tmp_path_factory):
    """A run of the command that was not interrupted."""
    request.getfixturevalue("tiny_backbones")
    main = importlib.import_module("scripts.train").main
    folder = tmp_path_factory.mktemp("trained")
    options = ["--backbone", "tiny", "--weights", "none", "--variants", "1", "--epochs", "2", "--batch-size", "8"]
    options += ["--folds", "2", "--name", "shade"]
    where = ["--data", str(data), "--store", str(folder / "store"), "--work", str(folder / "work")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*where, *options]) == 0
    return TrainedRun(options, folder / "store" / "shade" / "1", folder / "work", printed.getvalue())


@pytest.fixture(scope="session")
def single_films(tmp_path_factory):
    """A data folder with one film of each patient, so that leaving out a source leaves the patients of the other."""
    return write_table(tmp_path_factory.mktemp("single"), patients=24, films_each=1)
