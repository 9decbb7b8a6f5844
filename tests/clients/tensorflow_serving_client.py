"""A client of TensorFlow Serving's REST API, whose own messages must be able to hold the answers."""

from __future__ import annotations

import json
from typing import Any

import requests
from google.protobuf import json_format
from shared import ADDRESS, BAD, MODEL, ONE, TWO, b64
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse


def tensorflow_serving() -> dict[str, Any]:
    """TensorFlow Serving's REST API, whose answers its own messages must be able to hold."""
    url = f"{ADDRESS}/v1/models/{MODEL}"
    status = json_format.Parse(requests.get(url, timeout=60).text, GetModelStatusResponse(), ignore_unknown_fields=True)
    metadata = requests.get(f"{url}/metadata", timeout=60).json()
    signatures = json_format.ParseDict(metadata["metadata"]["signature_def"], SignatureDefMap()).signature_def
    default = signatures["serving_default"]
    images = [{"b64": b64(ONE)}, {"b64": b64(TWO)}]
    rows = {"signature_name": "serving_default", "instances": images}
    columns = {"signature_name": "serving_default", "inputs": {"image": images}}
    return {
        "versions": [[each.version, each.State.Name(each.state)] for each in status.model_version_status],
        "outputs": sorted(default.outputs),
        "dtypes": sorted([default.inputs["image"].dtype, *(signatures["pixels"].inputs["images"].dtype,)]),
        "rows": requests.post(f"{url}:predict", json=rows, timeout=60).json(),
        "columns": requests.post(f"{url}/versions/1:predict", json=columns, timeout=60).json(),
        "errors": {
            "bad image": requests.post(
                f"{url}:predict", json={"inputs": [images[0], {"b64": b64(BAD)}]}, timeout=60
            ).json(),
            "unknown version": requests.post(f"{url}/versions/9:predict", json=rows, timeout=60).json(),
        },
    }


if __name__ == "__main__":
    print(json.dumps(tensorflow_serving()))
