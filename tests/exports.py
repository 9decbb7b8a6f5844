"""Tiny models, exported once for all tests and loaded as the service loads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import RegionSpec, read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import seal
from app.imaging.geometry import Fit
from scripts.exporting.keras_files import export
from scripts.exporting.packing import Package, pack
from scripts.exporting.split_model import SplitModel
from tests import models

CLASSES = ("NORMAL", "PNEUMONIA", "COVID-19")


class Exports:
    """Exports the models of `tests.models` into `folder`, each when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, Path] = {}
        self._runtimes: dict[str, TensorFlowRuntime] = {}

    def entry(self, build: Callable[[], keras.Model | SplitModel]) -> Path:
        """The version folder of the model that `build` makes, in a store of its own."""
        name = build.__name__
        if name not in self._entries:
            model = build()
            keras.utils.clear_session(free_memory=False)
            if isinstance(model, SplitModel):
                self._entries[name] = pack(organ_package(model, name), self._folder / name)
            else:
                classes = CLASSES[: max(model.output_shape[-1], 2)]
                self._entries[name] = export(model, classes, name, self._folder / name)
        return self._entries[name]

    def runtime(self, build: Callable[[], keras.Model | SplitModel]) -> TensorFlowRuntime:
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


def organ_package(parts: SplitModel, name: str, **options: Any) -> Package:
    """The package of a model such as `models.red_organ`, whose trunk answers features, a box and regions."""

    def reference(images: UInt8Array) -> Float32Array:
        features, _box, _regions, *around = parts.trunk(images.astype(np.float32))
        return np.asarray(keras.ops.softmax(parts.head([features, *around] if around else features)), np.float32)

    facts: dict[str, Any] = {"classes": ("dark", "bright"), "box": True, "region": RegionSpec(name="organ")}
    return Package(name=name, parts=parts, reference=reference, **facts | options)
