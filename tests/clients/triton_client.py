"""Triton's clients, over HTTP and over gRPC, which take the same calls."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from PIL import Image
from shared import ADDRESS, BAD, EXPLAIN, GRPC_PORT, LARGE, MODEL, ONE, PARAMETERS, TWO, b64, tensors
from tritonclient.utils import InferenceServerException


def triton(module: Any, address: str) -> dict[str, Any]:
    """Triton's client, over HTTP or gRPC."""
    with module.InferenceServerClient(address) as client:

        def infer(*images: bytes, model: str = MODEL, binary: bool = True, **options: Any) -> Any:
            elements = images if binary else [b64(each).encode() for each in images]
            image = module.InferInput("image", [len(images)], "BYTES")
            way = {"binary_data": binary} if module is tritonclient.http else {}
            image.set_data_from_numpy(np.array(elements, object), **way)
            return client.infer(model, [image], **options)

        def error_of_call(call: Callable[[], Any]) -> str:
            try:
                call()
            except InferenceServerException as error:
                return f"{error.status()}: {error.message()}"
            return "no error"

        def wrong_type() -> Any:
            image = module.InferInput("image", [1], "FP32")
            image.set_data_from_numpy(np.zeros(1, np.float32))
            return client.infer(MODEL, [image])

        metadata = client.get_model_metadata(MODEL, **({"as_json": True} if module is tritonclient.grpc else {}))
        shape = [1, *(int(size) for size in metadata["inputs"][1]["shape"][1:])]
        network_input = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        pixels = module.InferInput("images", shape, "UINT8")
        pixels.set_data_from_numpy(network_input)
        on_pixels = client.infer(EXPLAIN, [pixels], parameters={"alpha": 0})
        with Image.open(io.BytesIO(on_pixels.as_numpy("overlay")[0])) as picture:
            same = bool((np.asarray(picture) == network_input[0]).all())
        explained = infer(ONE, TWO, model=EXPLAIN, parameters=PARAMETERS, request_id="the-id", timeout=20_000_000)
        compressed = (
            {"request_compression_algorithm": "gzip"}
            if module is tritonclient.http
            else {"compression_algorithm": "gzip"}
        )
        chosen = infer(ONE, model=EXPLAIN, outputs=[module.InferRequestedOutput("heatmap")], parameters=PARAMETERS)
        response = explained.get_response()
        return {
            "live": client.is_server_live(),
            "ready": [client.is_server_ready(), client.is_model_ready(EXPLAIN), client.is_model_ready(MODEL, "1")],
            "metadata": [each["name"] for each in metadata["outputs"]],
            "id": response["id"] if isinstance(response, dict) else response.id,
            "explained": tensors(explained.as_numpy),
            "chosen": chosen.as_numpy("heatmap").ravel().tolist(),
            "others": chosen.as_numpy("label") is None,
            "compressed": infer(ONE, **compressed).as_numpy("probabilities").tolist(),
            "version": infer(ONE, model_version="1").as_numpy("probabilities").tolist(),
            "json": infer(ONE, binary=module is tritonclient.grpc).as_numpy("probabilities").tolist(),
            "pixels": same,
            "errors": {
                "bad image": error_of_call(lambda: infer(ONE, BAD)),
                "unknown model": error_of_call(lambda: infer(ONE, model="nobody")),
                "unknown version": error_of_call(lambda: infer(ONE, model_version="9")),
                "unknown output": error_of_call(lambda: infer(ONE, outputs=[module.InferRequestedOutput("logits")])),
                "wrong type": error_of_call(wrong_type),
                "over the limit": error_of_call(lambda: infer(LARGE)),
                "shared memory": error_of_call(client.get_system_shared_memory_status),
                "repository": error_of_call(client.get_model_repository_index),
                "loading": error_of_call(lambda: client.load_model(MODEL)),
                "statistics": error_of_call(lambda: client.get_inference_statistics(MODEL)),
                "configuration": error_of_call(lambda: client.get_model_config(MODEL)),
            },
        }


def triton_stream() -> str:
    """What Triton's client gets for a stream."""
    answers: list[str] = []
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{GRPC_PORT}") as client:
        client.start_stream(
            lambda result, error: (  # noqa: ARG005  # by these names
                answers.append(str(error))
            )
        )
        image = tritonclient.grpc.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([ONE], object))
        # Where the refusal arrives first, the client does not send the request; the callback has the reason.
        with suppress(InferenceServerException):
            client.async_stream_infer(MODEL, [image])
        client.stop_stream()
    return answers[0]


if __name__ == "__main__":
    found = {
        "http": triton(tritonclient.http, ADDRESS.removeprefix("http://")),
        "grpc": triton(tritonclient.grpc, f"127.0.0.1:{GRPC_PORT}"),
        "stream": triton_stream(),
    }
    print(json.dumps(found))
