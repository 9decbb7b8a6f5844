"""A request of the Open Inference Protocol with one image in binary form."""

from __future__ import annotations

import json
import struct

HEADER = "Inference-Header-Content-Length"


def binary_body(image: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request that sends `image`, a file, and wants all outputs in binary form."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4 + len(image)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return b"".join((head, struct.pack("<I", len(image)), image)), {HEADER: str(len(head))}
