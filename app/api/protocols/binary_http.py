"""Open Inference requests and responses over HTTP: JSON, and binary tensors after it.

The binary form is the extension "binary_tensor_data": the header `Inference-Header-Content-Length` has the length of
the JSON, and `binary_data_size` that of each tensor after it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.api.protocols.images import ENCODED
from app.api.protocols.inference import OVERLAY
from app.api.protocols.json_document import member, pixels_of, read_document
from app.api.protocols.parameters import refuse_extensions
from app.api.protocols.tensors import (
    InferRequest,
    InferResponse,
    Tensor,
    WantedOutput,
    check_count,
    checked_shape,
    from_raw,
    to_raw,
)
from app.api.upload import decode_base64
from app.errors import MalformedBodyError, TensorError, of_image

HEADER_LENGTH = "Inference-Header-Content-Length"
_MAX_TENSORS = 16
# KServe's published example of a request with base64 gives its shape as a model's metadata would.
_FREE = -1


def read_request(model: str, version: str, body: bytes, header_length: str | None) -> InferRequest:
    """Parse the body of a request. A large one takes a second, so call it from a worker.

    Args:
        model: the model's name.
        version: its version; empty if the address has none.
        body: the body, decompressed.
        header_length: the value of the header `Inference-Header-Content-Length`, None if the body is JSON.

    Raises:
        MalformedBodyError: if the body is not JSON as the protocol has it, or contradicts its lengths.
        TensorError: if an input contradicts its shape or its datatype.
        UnsupportedFeatureError: if it needs an extension of the protocol that the service lacks.
    """
    size = len(body) if header_length is None else _header_size(header_length, len(body))
    document = read_document(body[:size])
    inputs, left = _inputs(_tensors(document, "inputs"), memoryview(body)[size:])
    if left:
        raise MalformedBodyError(f"{left} bytes after the JSON belong to no input; check its 'binary_data_size'")
    parameters = member(document, "parameters", dict, {})
    return InferRequest(
        model=model,
        version=version,
        inputs=inputs,
        id=member(document, "id", str, ""),
        parameters=list(parameters.items()),
        outputs=[_wanted(each) for each in _tensors(document, "outputs")] or None,
        binary=member(parameters, "binary_data_output", bool, default=False),
    )


def write_response(response: InferResponse, request: InferRequest) -> tuple[bytes, int | None]:
    """Serialize a response in the form that `request` asks for; call it from a worker.

    Returns:
        The body, and the length of its JSON if binary tensors follow it.
    """
    binary = {wanted.name: wanted.binary for wanted in request.outputs or ()}
    outputs, pieces = [], []
    for tensor in response.outputs:
        described: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary if binary.get(tensor.name) is None else binary[tensor.name]:
            pieces.append(to_raw(tensor))
            described["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            described["data"] = _json_data(tensor)
        outputs.append(described)
    document = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    text = json.dumps(document | ({"id": response.id} if response.id else {}), separators=(",", ":")).encode()
    return b"".join((text, *pieces)), len(text) if pieces else None


def _json_data(tensor: Tensor) -> list[Any]:
    """Return the content of an output, flat: numbers, text, or base64 for pictures."""
    if not isinstance(tensor.data, list):
        return tensor.data.ravel().tolist()
    if tensor.name == OVERLAY:
        return [base64.b64encode(element).decode("ascii") for element in tensor.data]
    return [element.decode() for element in tensor.data]


def _header_size(given: str, size: int) -> int:
    if not (given.isascii() and given.isdigit() and len(given) <= 12 and 0 < int(given) <= size):
        raise MalformedBodyError(
            f"the header {HEADER_LENGTH} is {given[:40]!r}; it must be the length of the JSON at the start of the "
            f"body, which has {size} bytes"
        )
    return int(given)


def _tensors(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    tensors = member(dict(document), key, list, [])
    if len(tensors) > _MAX_TENSORS or not all(isinstance(each, dict) for each in tensors):
        raise MalformedBodyError(f"{key!r} is not an array of at most {_MAX_TENSORS} objects")
    return tensors


def _wanted(described: dict[str, Any]) -> WantedOutput:
    parameters = member(described, "parameters", dict, {})
    for key in parameters:
        refuse_extensions(key)
    return WantedOutput(member(described, "name", str, ""), member(parameters, "binary_data", bool, None))


def _inputs(described: Sequence[dict[str, Any]], binary: memoryview) -> tuple[list[Tensor], int]:
    """Return the inputs, and the number of bytes of `binary` that are left."""
    tensors = []
    for each in described:
        parameters = member(each, "parameters", dict, {})
        for key in parameters:
            refuse_extensions(key)
        size = member(parameters, "binary_data_size", int, None)
        name, datatype = member(each, "name", str, ""), member(each, "datatype", str, "")
        sizes = member(each, "shape", list, [])
        shape = (_FREE,) if size is None and sizes == [_FREE] else checked_shape(name, sizes)
        if size is None:
            tensors.append(_from_json(name, datatype, shape, member(each, "data", list, [])))
            continue
        if not 0 <= size <= len(binary):
            raise MalformedBodyError(f"input {name[:80]!r} needs {size} bytes of binary data; {len(binary)} are left")
        tensors.append(from_raw(name, datatype, shape, bytes(binary[:size])))
        binary = binary[size:]
    return tensors, len(binary)


def _from_json(name: str, datatype: str, shape: tuple[int, ...], values: list[Any]) -> Tensor:
    """Return an input whose content is JSON, flat or nested."""
    if datatype == "UINT8":
        pixels = pixels_of(values)
        check_count(name, shape, pixels.size)
        return Tensor(name, datatype, shape, pixels)
    if datatype == "BYTES":
        texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
        if shape == (_FREE,):
            shape = (len(texts),)
        check_count(name, shape, len(texts))
        return Tensor(name, datatype, shape, [_decoded(index, len(texts), text) for index, text in enumerate(texts)])
    raise TensorError(f"input {name[:80]!r} has the datatype {datatype[:80]!r}; inputs are BYTES or UINT8")


def _decoded(index: int, count: int, text: object) -> bytes:
    with of_image(index, count):
        if not isinstance(text, str):
            raise TensorError(f"an element of {ENCODED!r} is not a text; send each image as base64")
        return decode_base64(text)
