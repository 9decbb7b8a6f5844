"""Layers and functions that are not part of Keras: from a Python file of the user, or as code in a Lambda layer."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils import python_utils

from scripts.errors import ExportError

_LAMBDAS = ("Lambda", "__lambda__")
# Layers of Keras 2 that Keras 3 has renamed or removed. The reader of Keras 2 files rewrites or refuses them.
_KERAS_2 = (
    "Functional Model Sequential TFOpLambda SlicingOpLambda TensorFlowOpLayer BatchNormalizationV1 "
    "BatchNormalizationV2 SyncBatchNormalization FixedDropout"
)
_WRAPPED = ("layer", "forward_layer", "backward_layer")
_NOT_RUN = ("compile_config", "build_config")


def custom_objects(path: Path) -> dict[str, Any]:
    """Run the Python file `path`, and return its classes and functions by name.

    Raises:
        ExportError: if there is no such file, or if it fails.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ExportError(f"there is no Python file {path} for --custom")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        raise ExportError(f"--custom {path} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    found = {name: value for name, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)}
    own = {name: value for name, value in found.items() if value.__module__ == module.__name__}
    # The model may have been saved in a notebook, or with the registered names of its objects.
    return {**own, **{keras.saving.get_registered_name(value): value for value in own.values()}}


def let_lambdas_use_tensorflow() -> None:
    """Make the usual imports `tf`, `np`, `keras`, `ops` and `K` available to the code of Lambda layers.

    Keras runs this code in the namespace of its own module, which lacks them.
    """
    usual = {"tf": tf, "tensorflow": tf, "np": np, "numpy": np, "keras": keras, "layers": keras.layers}
    names = vars(python_utils)
    for name, module in (usual | {"ops": keras.ops, "K": keras.backend}).items():
        names.setdefault(name, module)


def check_custom_objects(config: Any, objects: dict[str, Any], *, unsafe_lambda: bool) -> None:
    """Check that all layers and functions of a configuration are available and trusted.

    Raises:
        ExportError: if not; the message names the flag that helps.
    """
    used = set(_used(config))
    if not unsafe_lambda and not used.isdisjoint(_LAMBDAS):
        raise ExportError(
            "the model contains a Lambda layer, whose Python code runs when the model is loaded; if you trust the "
            "file, pass --unsafe-lambda"
        )
    missing = sorted(name for name in used - set(_LAMBDAS) if not _is_known(name, objects))
    if missing:
        raise ExportError(
            f"the model has layers or functions that are not part of Keras: {', '.join(missing)[:120]}; pass the "
            "Python file that defines them with --custom module.py"
        )


def _is_known(name: str, objects: dict[str, Any]) -> bool:
    plain = name.rpartition(">")[2]
    if name in objects or plain in objects or keras.saving.get_registered_object(name) is not None:
        return True
    return plain in _KERAS_2.split() or hasattr(keras.layers, plain)


def _used(part: Any) -> Iterator[str]:
    """Yield the names of the layers, models and custom functions in a configuration, at any depth."""
    if isinstance(part, list):
        for value in part:
            yield from _used(value)
    elif isinstance(part, dict):
        kind, config = part.get("class_name"), part.get("config")
        if kind in _LAMBDAS:
            yield str(kind)
        elif kind == "function" and isinstance(config, str) and not _is_of_keras(part):
            yield str(config)
        for key, value in part.items():
            if key == "layers" and isinstance(value, list):
                yield from (_name(layer) for layer in value if not _is_of_keras(layer))
            elif key in _WRAPPED and isinstance(value, dict) and not _is_of_keras(value):
                yield _name(value)
            if key not in _NOT_RUN:
                yield from _used(value)


def _name(layer: dict[str, Any]) -> str:
    return str(layer.get("registered_name") or layer.get("class_name"))


def _is_of_keras(part: dict[str, Any]) -> bool:
    return str(part.get("module")).startswith("keras")
