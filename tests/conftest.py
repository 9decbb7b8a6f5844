"""What several tests share: models that are really exported, a server, and films where the environment names some."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from app.artifact.runtimes.base import Runtime
from app.main import create_app
from app.serving.self_test import load_runtime
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.servers import Server, serving

if TYPE_CHECKING:  # Keras and TensorFlow take seconds to import, and most tests need neither
    import keras

    from app.artifact.runtimes.tensorflow import TensorFlowRuntime
    from tests.exports import Exports

    Build = Callable[[], keras.Model]

SHIPPED = Path(__file__).parents[1] / "model_store" / "cxr-vgg16" / "1"
# What is not part of the repository, and tests need: the only variables that they take from the environment.
NEEDED = ("LIGHTBOX_FILMS", "LIGHTBOX_FIELD", "LIGHTBOX_KERAS2", "LIGHTBOX_PROTOCOLS")


def pytest_configure() -> None:
    """Keep the developer's own settings out of the tests."""
    forget_settings(os.environ)


def pytest_collection_finish() -> None:
    """Exempt what is imported by now from garbage collection.

    A service that ends collects garbage: with TensorFlow's objects that takes a quarter of a second in each test.
    """
    gc.collect()
    gc.freeze()


def forget_settings(environment: MutableMapping[str, str]) -> None:
    """Remove every variable that Lightbox reads, in any spelling that it accepts, except those in `NEEDED`."""
    for name in [name for name in environment if name.upper().startswith("LIGHTBOX_") and name not in NEEDED]:
        del environment[name]


def _folder(variable: str, content: str) -> Path:
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"needs {variable}: a folder of {content}")
    return Path(named)


@pytest.fixture(scope="session")
def films() -> Path:
    """The folder of real films that `LIGHTBOX_FILMS` names."""
    return _folder("LIGHTBOX_FILMS", "real chest films with their metadata.csv")


@pytest.fixture(scope="session")
def field() -> Path:
    """The folder of images and models from the field that `LIGHTBOX_FIELD` names."""
    return _folder("LIGHTBOX_FIELD", "images and models that people reported, with what is right for each")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The models of `tests.models`, exported when they are first asked for."""
    return importlib.import_module("tests.exports").Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def entry_of(exports: Exports) -> Callable[[Build], Path]:
    """Exports a model of `tests.models` once per session, and returns its version folder."""
    return exports.entry


@pytest.fixture(scope="session")
def runtime_of(exports: Exports) -> Callable[[Build], TensorFlowRuntime]:
    """Exports a model of `tests.models`, and loads it as the service does."""
    return exports.runtime


@pytest.fixture(scope="session")
def shipped_runtime() -> Runtime:
    """The model that the project ships, verified and loaded as the service does."""
    return load_runtime(SHIPPED)


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The service over a runtime without a network."""
    with TestClient(create_app(Settings(), BrightnessRuntime())) as client:
        yield client


@pytest.fixture(scope="session")
def real_client(exports: Exports) -> Iterator[TestClient]:
    """The service over a tiny model that was really exported and is really loaded."""
    entry = exports.entry(importlib.import_module("tests.models").batch_norm_dropout)
    with TestClient(create_app(Settings(model_store=entry.parent.parent, model=entry.parent.name))) as client:
        yield client


@pytest.fixture(scope="session")
def served_entry(exports: Exports) -> Path:
    """The version that `shared_server` serves by default; its store has an older one and another model."""
    return exports.store() / "tiny" / "2"


@pytest.fixture(scope="session")
def shared_server(served_entry: Path) -> Iterator[Server]:
    """A server process for all tests that leave it as it was; it takes images of up to 3 MB."""
    with serving(served_entry, LIGHTBOX_MAX_UPLOAD_BYTES="3000000") as server:
        yield server
