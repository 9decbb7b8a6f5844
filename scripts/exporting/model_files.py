"""Reading of Keras models from files, whose kind is recognised by their content."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

from scripts.errors import ExportError
from scripts.exporting.compiled_loss import CompiledLoss, loss_of_config
from scripts.exporting.custom_objects import check_custom_objects, custom_objects, let_lambdas_use_tensorflow
from scripts.exporting.legacy.configuration import keras_3_config
from scripts.exporting.legacy.nodes import flattened
from scripts.exporting.legacy.weights import load_named_weights, load_numbered_weights

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# Magic bytes of other formats, with their offsets.
_FOREIGN = {
    "a TensorFlow Lite model": (4, b"TFL3"),
    "a pickle, such as a PyTorch file": (0, b"\x80"),
    "a NumPy array": (0, b"\x93NUMPY"),
    "a web page, perhaps the error message of a download": (0, b"<"),
}
_SAVE = "save the model with model.save('model.keras') in the Keras version that built it"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model, and the loss that it was compiled with, if the file contains it."""

    model: keras.Model
    loss: CompiledLoss | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Code that the user trusts: the Python file `custom` with custom layers, and the code of Lambda layers."""

    custom: Path | None = None
    unsafe_lambda: bool = False


SAFE = Trust()


def read_model(path: Path, *, architecture: Path | None = None, trust: Trust = SAFE) -> ModelFile:
    """Read a model of Keras 2 or 3: a `.keras` or HDF5 file of any name, or weights and their `architecture`.

    Raises:
        ExportError: if there is no such file, or if it can't be read; the message says what to do.
    """
    if trust.unsafe_lambda:
        let_lambdas_use_tensorflow()
    objects = {} if trust.custom is None else custom_objects(trust.custom)
    if not path.exists():
        raise ExportError(f"there is no file {path}")
    if path.is_dir():
        raise ExportError(_folder(path))
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_ZIP):
        return _read_archive(path, objects, trust)
    if head.startswith(_HDF5):
        return _read_hdf5(path, architecture, objects, trust)
    raise ExportError(_other(path, head))


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return f"{path} is a SavedModel folder: a graph without layers, which can't be split; {_SAVE}"
    if (path / _CONFIG).is_file():
        return f"{path} is an extracted .keras file: pack its files into a zip archive named model.keras"
    return f"{path} is a folder; a .keras or .h5 file is needed"


def _other(path: Path, head: bytes) -> str:
    if head.lstrip()[:1] in (b"{", b"["):
        return (
            f"{path} is an architecture without weights; pass the file of the weights, and this one as --architecture"
        )
    kind = next((name for name, (at, magic) in _FOREIGN.items() if head[at:].startswith(magic)), None)
    if kind is None and path.suffix in (".index", ".data-00000-of-00001"):
        kind = "a TensorFlow checkpoint"
    return f"{path} is {kind}, which can't be read; {_SAVE}" if kind else f"{path} is not a Keras file; {_SAVE}"


def _read_archive(path: Path, objects: dict[str, Any], trust: Trust) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if _CONFIG not in names or _WEIGHTS not in names:
                raise ExportError(
                    f"{path} is a zip archive, but not a .keras file: it lacks {_CONFIG} or {_WEIGHTS}; {_SAVE}"
                )
            config = json.loads(archive.read(_CONFIG))
            version = str(json.loads(archive.read("metadata.json")).get("keras_version", ""))
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError) as error:
        raise ExportError(f"{path} is damaged: {error}; download or save it again") from error
    check_custom_objects(config, objects, unsafe_lambda=trust.unsafe_lambda)
    loss = loss_of_config(config.get("compile_config"))
    if version.startswith(("1.", "2.")):
        model = _built(keras_3_config(config), objects, trust)
        with _unpacked(path, _WEIGHTS) as weights, h5py.File(weights) as group:
            load_numbered_weights(group, model)
        return ModelFile(model, loss)
    changed = flattened(config)
    with tempfile.TemporaryDirectory() as folder:
        copy = path
        if changed != config or path.suffix != ".keras":
            copy = Path(folder) / "model.keras"
            _copy_with(path, copy, changed)
        return ModelFile(_loaded(copy, objects, trust), loss)


@contextmanager
def _unpacked(path: Path, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        yield Path(archive.extract(name, folder))


def _copy_with(path: Path, copy: Path, config: dict[str, Any]) -> None:
    """Copy a .keras file, with `config` in place of its configuration."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for item in source.infolist():
            if item.filename == _CONFIG:
                target.writestr(item, json.dumps(config))
                continue
            with source.open(item) as read, target.open(item, "w", force_zip64=True) as written:
                shutil.copyfileobj(read, written)


def _read_hdf5(path: Path, architecture: Path | None, objects: dict[str, Any], trust: Trust) -> ModelFile:
    with h5py.File(path) as file:
        if "model_config" not in file.attrs:
            return ModelFile(_with_weights(path, file, architecture, objects, trust))
        config = json.loads(_text(file.attrs["model_config"]))
        version = _text(file.attrs.get("keras_version", "1"))
        training = file.attrs.get("training_config")
        loss = None if training is None else loss_of_config(json.loads(_text(training)))
        check_custom_objects(config, objects, unsafe_lambda=trust.unsafe_lambda)
        if version.startswith(("1", "2")):
            model = _built(keras_3_config(config), objects, trust)
            load_named_weights(file["model_weights"], model)
            return ModelFile(model, loss)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, Path(folder) / "model.h5"))
        with h5py.File(copy, "r+") as file:
            file.attrs["model_config"] = json.dumps(flattened(config))
        return ModelFile(_loaded(copy, objects, trust), loss)


def _with_weights(
    path: Path, file: h5py.File, architecture: Path | None, objects: dict[str, Any], trust: Trust
) -> keras.Model:
    """Build the model of `architecture` with the weights of `file`."""
    if "layer_names" not in file.attrs and not {"layers", "_layer_checkpoint_dependencies", "vars"} & set(file):
        raise ExportError(f"{path} is an HDF5 file, but contains neither a Keras model nor weights; {_SAVE}")
    if architecture is None:
        raise ExportError(
            f"{path} contains weights without a model: pass the output of model.to_json() with "
            "--architecture model.json, or save the whole model"
        )
    try:
        config = json.loads(architecture.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(f"{architecture} does not contain the output of model.to_json(): {error}") from error
    check_custom_objects(config, objects, unsafe_lambda=trust.unsafe_lambda)
    old = (
        not str(config.get("keras_version", "" if "module" in config else "2")).startswith("3")
        and "module" not in config
    )
    model = _built(keras_3_config(config) if old else flattened(config), objects, trust)
    if "layer_names" in file.attrs:
        load_named_weights(file, model)
        return model
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(path, Path(folder) / "model.weights.h5")
        try:
            model.load_weights(copy)
        except (ValueError, KeyError) as error:
            raise ExportError(f"the weights of {path} do not match {architecture}: {error}") from error
    return model


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _built(config: dict[str, Any], objects: dict[str, Any], trust: Trust) -> keras.Model:
    try:
        return keras.saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=not trust.unsafe_lambda)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ExportError(f"Keras {keras.__version__} can't build the model: {error}") from error


def _loaded(path: Path, objects: dict[str, Any], trust: Trust) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False, custom_objects=objects, safe_mode=not trust.unsafe_lambda)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ExportError(f"Keras {keras.__version__} can't read the model: {error}") from error
