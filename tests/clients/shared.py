"""What the scripts of this folder share. Each asks a server with one real client of an inference protocol.

They run in an environment of their own, which has these clients and nothing of Lightbox (`make protocols`), and print
as JSON what the client understood:

    python tests/clients/kserve_client.py ADDRESS PORT_OF_GRPC MODEL FOLDER

`FOLDER` has the images `one.png` and `two.png`, `bad.png`, which is truncated, and `large.bin`, which is too large.
Each client has a process of its own, because two of them define the same messages of Protocol Buffers.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ADDRESS, GRPC_PORT, MODEL, FOLDER = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
EXPLAIN = f"{MODEL}:explain"
ONE, TWO, BAD, LARGE = (FOLDER.joinpath(name).read_bytes() for name in ("one.png", "two.png", "bad.png", "large.bin"))
PARAMETERS = {"class": "PNEUMONIA", "alpha": 0.25}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def size_of(picture: bytes) -> list[int]:
    """Open a picture, as a person would, and return its size."""
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        return list(image.size)


def tensors(as_numpy: Callable[[str], np.ndarray]) -> dict[str, Any]:
    """The outputs of an explanation, as JSON has them."""
    return {
        "label": [text.decode() for text in as_numpy("label")],
        "probabilities": as_numpy("probabilities").tolist(),
        "novelty": as_numpy("novelty").tolist(),
        "heatmap": as_numpy("heatmap").tolist(),
        "overlay": [b64(picture) for picture in as_numpy("overlay")],
        "size": size_of(as_numpy("overlay")[0]),
    }
