"""Layers and functions that are not Keras's: from the user's own Python file, and the code that a Lambda carries."""

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
# Layers of Keras 2 that Keras 3 has under another name, or not at all; reading rewrites or refuses them by themselves.
_KERAS_2 = (
    "Functional Model Sequential TFOpLambda SlicingOpLambda TensorFlowOpLayer BatchNormalizationV1 "
    "BatchNormalizationV2 SyncBatchNormalization FixedDropout"
)
_WRAPPED = ("layer", "forward_layer", "backward_layer")
_NOT_RUN = ("compile_config", "build_config")


def custom_objects(path: Path) -> dict[str, Any]:
    """The classes and functions of the Python file `path`, which is run for them, by name.

    Raises:
        ExportError: there is no such file, or it fails.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ExportError(f"there is no Python file {path} for --custom")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # it may import files that lie beside it
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        raise ExportError(f"--custom {path} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    found = {name: value for name, value in vars(module).items() if inspect.isclass(value) or inspect.isfunction(value)}
    own = {name: value for name, value in found.items() if value.__module__ == module.__name__}
    # A file may have been written from a notebook or under another registered name.
    return {**own, **{keras.saving.get_registered_name(value): value for value in own.values()}}


def let_lambdas_use_tensorflow() -> None:
    """Let the code of Lambdas find the modules that people import as `tf`, `np`, `keras`, `ops` and `K`.

    Keras runs it among the names of the module that reads it, where they are missing.
    """
    usual = {"tf": tf, "tensorflow": tf, "np": np, "numpy": np, "keras": keras, "layers": keras.layers}
    names = vars(python_utils)
    for name, module in (usual | {"ops": keras.ops, "K": keras.backend}).items():
        names.setdefault(name, module)


def check_custom_objects(config: Any, objects: dict[str, Any], *, unsafe_lambda: bool) -> None:
    """Refuse a configuration that needs what is not there.

    Raises:
        ExportError: with the flag that helps.
    """
    used = set(_used(config))
    if not unsafe_lambda and not used.isdisjoint(_LAMBDAS):
        raise ExportError(
            "the model holds a Lambda layer: Python code, which is run when it is read; if you trust the file, say "
            "--unsafe-lambda"
        )
    missing = sorted(name for name in used - set(_LAMBDAS) if not _is_known(name, objects))
    if missing:
        raise ExportError(
            f"the model has layers or functions that are not Keras's: {', '.join(missing)[:120]}; give the Python file "
            "that defines them, with --custom module.py"
        )


def _is_known(name: str, objects: dict[str, Any]) -> bool:
    plain = name.rpartition(">")[2]
    if name in objects or plain in objects or keras.saving.get_registered_object(name) is not None:
        return True
    return plain in _KERAS_2.split() or hasattr(keras.layers, plain)


def _used(part: Any) -> Iterator[str]:
    """The names of the layers, models and own functions in a configuration, however deep."""
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
