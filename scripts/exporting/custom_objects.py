"""Layers and functions that are not Keras's: from the user's own Python file, and the code that a Lambda carries."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import keras

from scripts.errors import ExportError

_LAMBDAS = ("Lambda", "__lambda__")
# Classes in a configuration that are no layers and no objects of a user's.
_MODELS = ("Functional", "Model", "Sequential")


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


def check_custom_objects(config: Any, objects: dict[str, Any], *, unsafe_lambda: bool) -> None:
    """Refuse a configuration that needs what is not there.

    Raises:
        ExportError: with the flag that helps.
    """
    if not unsafe_lambda and any(kind in _LAMBDAS for kind, _ in _classes(config)):
        raise ExportError(
            "the model holds a Lambda layer: Python code, which is run when it is read; if you trust the file, say "
            "--unsafe-lambda"
        )
    missing = sorted({kind for kind, registered in _classes(config) if not _is_known(kind, registered, objects)})
    if missing:
        raise ExportError(
            f"the model has layers or functions that are not Keras's: {', '.join(missing)[:120]}; give the Python file "
            "that defines them, with --custom module.py"
        )


def _is_known(kind: str, registered: str | None, objects: dict[str, Any]) -> bool:
    names = {kind, kind.rpartition(">")[2], registered}
    if kind in _MODELS or names & objects.keys():
        return True
    return any(name is not None and keras.saving.get_registered_object(name) is not None for name in names)


def _classes(part: Any) -> list[tuple[str, str | None]]:
    """The (class name, registered name) of every layer of the configuration that is not in Keras, and of Lambdas."""
    if isinstance(part, list):
        return [found for value in part for found in _classes(value)]
    if not isinstance(part, dict):
        return []
    inner = [
        found
        for key, value in part.items()
        if key not in ("compile_config", "build_config")
        for found in _classes(value)
    ]
    kind = part.get("class_name")
    if not isinstance(kind, str) or not isinstance(part.get("config"), (dict, list)):
        return inner
    if kind in _LAMBDAS:
        return [*inner, (kind, kind)]
    is_layer = (
        "inbound_nodes" in part or "build_config" in part or (part.get("module") is None and "name" in part["config"])
    )
    own = part.get("registered_name") is not None and not str(part.get("module")).startswith("keras")
    if is_layer and (own or (part.get("module") is None and not _is_keras(kind))):
        return [*inner, (kind, part.get("registered_name"))]
    return inner


def _is_keras(kind: str) -> bool:
    foreign = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "BatchNormalizationV1", "BatchNormalizationV2")
    return kind in (*_MODELS, *foreign, "FixedDropout", "SyncBatchNormalization") or hasattr(keras.layers, kind)
