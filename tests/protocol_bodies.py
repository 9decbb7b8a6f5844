"""Bodies of the inference protocols, written without the code that reads them."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np

HEADER = "Inference-Header-Content-Length"
DATATYPES = {"FP32": np.float32, "UINT8": np.uint8}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def instances(*images: bytes, **beside: Any) -> dict[str, Any]:
    """A body of KServe V1 and of TensorFlow Serving."""
    return {"instances": [{"b64": b64(image)} for image in images], **beside}


def json_tensor(*images: bytes) -> dict[str, Any]:
    """The input `image` as JSON."""
    return {"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": [b64(image) for image in images]}


def raw_bytes(*elements: bytes) -> bytes:
    """The binary form of a `BYTES` tensor: each element after its length, four bytes, little-endian."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def binary(raw: bytes, name: str, datatype: str, shape: list[int], **beside: Any) -> dict[str, Any]:
    """The keyword arguments of a request whose only input is binary."""
    described = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [described], **beside}).encode()
    return {"content": head + raw, "headers": {HEADER: str(len(head)), "content-type": "application/octet-stream"}}


def outputs_of(answer: Any) -> dict[str, Any]:
    """The outputs of an answer by name: arrays, or lists of bytes objects, whatever form each has."""
    assert answer.status_code == 200, answer.text
    size = int(answer.headers.get(HEADER, len(answer.content)))
    document, rest = json.loads(answer.content[:size]), answer.content[size:]
    found = {}
    for output in document["outputs"]:
        length = output.get("parameters", {}).get("binary_data_size")
        if length is None:
            found[output["name"]] = _from_json(output)
        else:
            found[output["name"]] = _from_raw(output, rest[:length])
            rest = rest[length:]
    assert not rest
    return found


def _from_json(output: dict[str, Any]) -> Any:
    if output["datatype"] != "BYTES":
        return np.array(output["data"], DATATYPES[output["datatype"]]).reshape(output["shape"])
    if output["name"] == "overlay":
        return [base64.b64decode(text, validate=True) for text in output["data"]]
    return [text.encode() for text in output["data"]]


def _from_raw(output: dict[str, Any], raw: bytes) -> Any:
    if output["datatype"] != "BYTES":
        return np.frombuffer(raw, DATATYPES[output["datatype"]]).reshape(output["shape"])
    elements = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        elements.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    assert len(elements) == output["shape"][0]
    return elements
