"""Tensors of the Open Inference Protocol, apart from how HTTP or gRPC transports them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.arrays import Float32Array, UInt8Array
from app.errors import TensorError

# Tensors have four dimensions at most here; a shape of thousands is an attack.
MAX_DIMENSIONS = 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor: its `name`, its `datatype` as the protocol names it, its `shape`, and its content.

    `data` is a flat list of bytes objects if the datatype is `BYTES`, otherwise an array of any shape with as many
    elements as `shape`, in row-major order.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[bytes] | UInt8Array | Float32Array


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that a request asks for; `binary` is None if the request as a whole decides on the form."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """A request for inference. `outputs` is None if it asks for all, `binary` whether as raw bytes."""

    model: str
    version: str
    inputs: list[Tensor]
    id: str = ""
    parameters: list[tuple[str, object]] = field(default_factory=list)
    outputs: list[WantedOutput] | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """The answer to a request, whose `id` it repeats."""

    model: str
    version: str
    id: str
    outputs: list[Tensor]


def checked_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of the input `name`.

    Raises:
        TensorError: if it is not a list of sizes.
    """
    sizes = tuple(shape)
    if not 0 < len(sizes) <= MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise TensorError(f"the shape of input {name!r} is not a list of 1 to {MAX_DIMENSIONS} sizes")
    return sizes


def check_count(name: str, shape: tuple[int, ...], count: int) -> None:
    """Check that the input `name` has as many elements as its shape.

    Raises:
        TensorError: if it has not.
    """
    if math.prod(shape) != count:
        raise TensorError(f"input {name!r} has {count} elements; its shape {list(shape)} needs {math.prod(shape)}")


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Tensor:
    """Return the input `name` from its binary form: row-major, little-endian, each `BYTES` element after its length.

    Raises:
        TensorError: if the datatype is none that an input can have, or the content contradicts the shape.
    """
    data: list[bytes] | UInt8Array
    if datatype == "BYTES":
        data = _elements(name, raw, math.prod(shape))
    elif datatype == "UINT8":
        data = np.frombuffer(raw, np.uint8)
    else:
        raise TensorError(f"input {name[:80]!r} has the datatype {datatype[:80]!r}; inputs are BYTES or UINT8")
    check_count(name, shape, len(data))
    return Tensor(name, datatype, shape, data)


def to_raw(tensor: Tensor) -> bytes:
    """Return the binary form of `tensor`; the inverse of `from_raw`."""
    if isinstance(tensor.data, list):
        return b"".join(piece for element in tensor.data for piece in (_LENGTH.pack(len(element)), element))
    return tensor.data.tobytes()


def _elements(name: str, raw: bytes, count: int) -> list[bytes]:
    """Split the binary form of a `BYTES` tensor of `count` elements."""
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(elements) == count:
            raise TensorError(f"input {name!r} has more elements than its shape, which needs {count}")
        start = at + _LENGTH.size
        if start > len(raw):
            raise TensorError(f"input {name!r} ends within the length of element {len(elements)}")
        at = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        if at > len(raw):
            raise TensorError(f"element {len(elements)} of input {name!r} is longer than the rest of its data")
        elements.append(raw[start:at])
    return elements
