"""Tiny models, exported once for all tests and loaded as the service loads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import keras

from app.artifact.manifest import read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import seal
from app.imaging.geometry import Fit
from scripts.exporting.keras_files import export
from tests import models

CLASSES = ("NORMAL", "PNEUMONIA", "COVID-19")


class Exports:
    """Exports the models of `tests.models` into `folder`, each when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Path] = {}
        self._runtimes: dict[str, TensorFlowRuntime] = {}

    def entry(self, build: Callable[[], keras.Model]) -> Path:
        """The version folder of the model that `build` makes, in a store of its own."""
        name = build.__name__
        if name not in self._entries:
            model = build()
            keras.utils.clear_session(free_memory=False)
            classes = CLASSES[: max(model.output_shape[-1], 2)]
            self._entries[name] = export(model, classes, name, self._folder / name)
        return self._entries[name]

    def runtime(self, build: Callable[[], keras.Model]) -> TensorFlowRuntime:
        """The exported model that `build` makes, loaded."""
        name = build.__name__
        if name not in self._runtimes:
            self._runtimes[name] = TensorFlowRuntime(self.entry(build))
        return self._runtimes[name]

    def store(self) -> Path:
        """A new store of two models: versions 1 and 2 of `tiny`, which crop images, and version 4 of `planted`."""
        store = self._folder / "several"
        self._publish(models.planted_square, store / "planted" / "4", classes=("dark", "bright"))
        self._publish(models.gap_linear, store / "tiny" / "1", fit="crop")
        self._publish(models.batch_norm_dropout, store / "tiny" / "2", fit="crop")
        return store

    def _publish(
        self,
        build: Callable[[], keras.Model],
        target: Path,
        *,
        fit: Fit = "squash",
        classes: tuple[str, ...] = CLASSES,
    ) -> None:
        """Copy an exported model to the version folder `target`, with a manifest that says so."""
        shutil.copytree(self.entry(build), target)
        manifest = read_manifest(target)
        changes = {
            "name": target.parent.name,
            "version": int(target.name),
            "classes": classes,
            "input": manifest.input.model_copy(update={"fit": fit}),
        }
        seal(target, manifest.model_copy(update=changes))
