"""Read weights, without PyTorch, from files in the format that PyTorch used before version 1.6."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from scripts.errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_KINDS: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        values = storages[self.storage][self.offset :]
        strides = tuple(step * values.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    """Builds only tensors and ordered dictionaries, because a pickle can call any function."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.kinds: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in _KINDS:
            return name
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is no weight")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.kinds[key] = _KINDS[kind]
        return str(key)


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Return the weights of a network by parameter name.

    The layout is that of `torch.save` with `_use_new_zipfile_serialization=False`: five pickles (a magic number, a
    protocol, the byte order of the writer, the state, and the order of the storages), and then, for each storage, the
    number of elements and the elements.

    Raises:
        WeightsError: the file has another format, is damaged, or contains objects other than weights.
    """
    try:
        with path.open("rb") as file:
            head = [_Unpickler(file).load() for _ in range(3)]
            if head[:2] != [_MAGIC, _PROTOCOL]:
                raise WeightsError(f"{path} is not in PyTorch's older file format")
            unpickler = _Unpickler(file)
            tensors = unpickler.load()
            storages = {key: _elements(file, unpickler.kinds[key]) for key in _Unpickler(file).load()}
            return {name: tensor.array(storages) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} can't be read as PyTorch's older file format: {error}") from error


def _elements(file: IO[bytes], kind: np.dtype[Any]) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * kind.itemsize), kind, count)
