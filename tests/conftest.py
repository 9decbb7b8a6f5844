"""What several tests share: exported tiny models, and real films where the environment names some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pytest
from starlette.testclient import TestClient

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.main import create_app
from app.settings import Settings
from scripts.exporting.keras_files import export
from tests import models
from tests.doubles import BrightnessRuntime

CLASSES = ("NORMAL", "PNEUMONIA", "COVID-19")


@pytest.fixture(scope="session")
def films() -> Path:
    """The folder of real films that `LIGHTBOX_FILMS` names."""
    folder = os.environ.get("LIGHTBOX_FILMS")
    if not folder:
        pytest.skip("LIGHTBOX_FILMS names no folder of real films")
    return Path(folder)


@pytest.fixture(scope="session")
def field() -> Path:
    """The folder of films and Keras files from the field that `LIGHTBOX_FIELD` names."""
    folder = os.environ.get("LIGHTBOX_FIELD")
    if not folder:
        pytest.skip("needs LIGHTBOX_FIELD, a folder of films and Keras files that people reported")
    return Path(folder)


@pytest.fixture(scope="session")
def entry_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[], keras.Model]], Path]:
    """Exports a model of `tests.models` once per session, and gives its version folder."""
    exported: dict[str, Path] = {}

    def entry(build: Callable[[], keras.Model]) -> Path:
        if build.__name__ not in exported:
            model = build()
            keras.utils.clear_session(free_memory=False)
            classes = CLASSES[: max(model.output_shape[-1], 2)]
            store = tmp_path_factory.mktemp("store")
            exported[build.__name__] = export(model, classes, build.__name__, store)
        return exported[build.__name__]

    return entry


@pytest.fixture(scope="session")
def runtime_of(entry_of: Callable[..., Path]) -> Callable[[Callable[[], keras.Model]], TensorFlowRuntime]:
    """Exports a model and loads it again as the service does."""
    loaded: dict[str, TensorFlowRuntime] = {}

    def runtime(build: Callable[[], keras.Model]) -> TensorFlowRuntime:
        if build.__name__ not in loaded:
            loaded[build.__name__] = TensorFlowRuntime(entry_of(build))
        return loaded[build.__name__]

    return runtime


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The service over a runtime without a network."""
    with TestClient(create_app(Settings(), BrightnessRuntime())) as client:
        yield client


@pytest.fixture(scope="session")
def real_client(entry_of: Callable[..., Path]) -> Iterator[TestClient]:
    """The service over a tiny model that was really exported and is really loaded."""
    entry = entry_of(models.batch_norm_dropout)
    settings = Settings(model_store=entry.parent.parent, model=entry.parent.name)
    with TestClient(create_app(settings)) as client:
        yield client
