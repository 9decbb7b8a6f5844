"""JSON bodies of the protocols, read at a bounded cost in time and memory."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from app.api.protocols.tensors import MAX_DIMENSIONS
from app.arrays import UInt8Array
from app.errors import MalformedBodyError, TensorError

# An object costs a hundred times its two characters, an array thirty times. A request has a few objects per image, and
# nested pixels have an array per pixel.
_MAX_OBJECTS = 1_000
_MAX_ARRAYS = 2_000_000


def read_document(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. A large one takes a second, so call it from a worker.

    Raises:
        MalformedBodyError: if `body` is not a JSON object (RFC 8259), repeats a key, which would hide a value, or is
            nested too deeply or in too many parts.
    """
    if body.count(b"{") > _MAX_OBJECTS or body.count(b"[") > _MAX_ARRAYS:
        raise MalformedBodyError(
            f"the JSON has more than {_MAX_OBJECTS} objects or {_MAX_ARRAYS} arrays; send images as base64 or binary"
        )
    try:
        document = json.loads(body, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError("the body is not valid JSON") from error
    if not isinstance(document, dict):
        raise MalformedBodyError("the body is JSON, but not an object")
    return document


def member(document: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    """Return the member `name` of a JSON object, or `default` if it is missing or null.

    Raises:
        MalformedBodyError: if the value is not of `kind`.
    """
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MalformedBodyError(f"the value of {name!r} is not {_KINDS[kind]}")
    return value


def pixels_of(values: list[Any]) -> UInt8Array:
    """Return nested lists of whole numbers in 0..255 as an array of as many dimensions.

    Raises:
        TensorError: if they are ragged, or contain anything else.
    """
    shape, level = [len(values)], values
    while level and isinstance(level[0], list):
        lengths = {len(part) if isinstance(part, list) else None for part in level}
        if len(lengths) != 1 or len(shape) == MAX_DIMENSIONS:
            raise TensorError("the pixels are ragged: the lists of one level have different lengths")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    try:
        # NumPy would accept texts and fractions, and could need any amount of memory for them.
        return np.frombuffer(bytes(level), np.uint8).reshape(shape)
    except (TypeError, ValueError) as error:
        raise TensorError("the pixels are not whole numbers in 0..255, the values of UINT8") from error


_KINDS = {str: "a string", int: "a whole number", bool: "true or false", list: "an array", dict: "an object"}


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedBodyError("an object of the JSON repeats a key")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedBodyError(f"{name} is not JSON")
