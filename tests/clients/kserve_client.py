"""KServe's own clients: V1, V2 over HTTP, and V2 over gRPC."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from shared import ADDRESS, BAD, EXPLAIN, GRPC_PORT, LARGE, MODEL, ONE, PARAMETERS, TWO, b64, size_of, tensors


async def v1() -> dict[str, Any]:
    """KServe's client of V1."""
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:

        async def predict(*images: bytes, model: str = MODEL) -> Any:
            return await client.infer(ADDRESS, {"instances": [{"b64": b64(each)} for each in images]}, model)

        body = {"instances": [{"b64": b64(ONE)}, {"b64": b64(TWO)}], "parameters": PARAMETERS, "model_name": MODEL}
        explained = await client.explain(ADDRESS, MODEL, body)
        return {
            "live": await client.is_server_live(ADDRESS),
            "ready": await client.is_model_ready(ADDRESS, MODEL),
            "predicted": await predict(ONE, TWO),
            "explained": explained,
            "size": size_of(base64.b64decode(explained["explanations"][0]["overlay"]["data"])),
            "errors": {
                "bad image": await error_of(predict(ONE, BAD)),
                "unknown model": await error_of(predict(ONE, model="nobody")),
                "unknown model's readiness": await error_of(client.is_model_ready(ADDRESS, "nobody")),
                "over the limit": await error_of(predict(LARGE)),
            },
        }


async def v2() -> dict[str, Any]:
    """KServe's client of V2 over HTTP, with JSON and with binary tensors."""
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        async def infer(*images: bytes, model: str = MODEL, binary: bool = True, **options: Any) -> Any:
            return await client.infer(ADDRESS, request_of(*images, model=model, binary=binary, **options), model)

        explained = await infer(ONE, TWO, model=EXPLAIN, parameters=PARAMETERS)
        overlay = {output.name: output for output in explained.outputs}["overlay"].data
        binary_outputs = [RequestedOutput("heatmap", {"binary_data": True}), RequestedOutput("label")]
        chosen = await infer(ONE, model=EXPLAIN, outputs=binary_outputs, parameters=PARAMETERS)
        wrong = InferRequest(MODEL, [InferInput("image", [1], "FP32", data=[1.0])])
        return {
            "live": await client.is_server_live(ADDRESS),
            "ready": [await client.is_server_ready(ADDRESS), await client.is_model_ready(ADDRESS, EXPLAIN)],
            "unknown model's readiness": await client.is_model_ready(ADDRESS, "nobody"),
            "id": explained.id,
            "explained": {output.name: output.data for output in explained.outputs},
            "shapes": {output.name: output.shape for output in explained.outputs},
            "json": {output.name: output.data for output in (await infer(ONE, TWO, binary=False)).outputs},
            "chosen": {output.name: np.asarray(output.data).ravel().tolist() for output in chosen.outputs},
            "size": size_of(base64.b64decode(overlay[0])),
            "errors": {
                "bad image": await error_of(infer(ONE, BAD)),
                "unknown model": await error_of(infer(ONE, model="nobody")),
                "unknown output": await error_of(infer(ONE, outputs=[RequestedOutput("logits")])),
                "wrong type": await error_of(client.infer(ADDRESS, wrong, MODEL)),
                "over the limit": await error_of(infer(LARGE)),
            },
        }


async def over_grpc() -> dict[str, Any]:
    """KServe's client of V2 over gRPC."""
    async with InferenceGRPCClient(f"127.0.0.1:{GRPC_PORT}") as client:
        texts = {name: str(value) for name, value in PARAMETERS.items()}  # it can't send fractions over gRPC
        explained = await client.infer(request_of(ONE, TWO, model=EXPLAIN, parameters=texts))
        outputs = {output.name: output for output in explained.outputs}
        return {
            "live": await client.is_server_live(),
            "ready": [await client.is_server_ready(), await client.is_model_ready(MODEL)],
            "id": explained.id,
            "explained": tensors(lambda name: outputs[name].as_numpy()),
            "errors": {
                "bad image": await error_of(client.infer(request_of(ONE, BAD))),
                "unknown model": await error_of(client.infer(request_of(ONE, model="nobody"))),
            },
        }


def request_of(
    *images: bytes, model: str = MODEL, binary: bool = True, outputs: Any = None, parameters: Any = None
) -> InferRequest:
    image = InferInput("image", [len(images)], "BYTES")
    elements = images if binary else [b64(each).encode() for each in images]
    image.set_data_from_numpy(np.array(elements, object), binary_data=binary)
    return InferRequest(model, [image], "the-id", parameters=parameters, request_outputs=outputs)


async def error_of(call: Any) -> str:
    """What the client shows of an error."""
    try:
        await call
    except httpx.HTTPStatusError as error:
        return str(error)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "no error"


async def ask() -> dict[str, Any]:
    return {"v1": await v1(), "v2": await v2(), "grpc": await over_grpc()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask())))
