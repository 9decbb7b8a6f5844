"""Open Inference requests and responses as Protocol Buffers messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from app.api.protocols.grpc.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from app.api.protocols.inference import TensorSpec
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
from app.errors import MalformedBodyError, TensorError

_CONTENTS = {"BYTES": "bytes_contents", "FP32": "fp32_contents"}


def read_message(message: ModelInferRequest) -> InferRequest:
    """Return the request that `message` carries; call it from a worker, as it copies the content of the inputs.

    Raises:
        MalformedBodyError: if the content of the inputs is given neither in each of them nor raw for each of them.
        TensorError: if an input contradicts its shape or its datatype.
        UnsupportedFeatureError: if it needs an extension of the protocol that the service lacks.
    """
    raw = list(message.raw_input_contents)
    if raw and (len(raw) != len(message.inputs) or any(each.HasField("contents") for each in message.inputs)):
        raise MalformedBodyError(
            f"the message has {len(message.inputs)} inputs and {len(raw)} raw contents; send either one raw content "
            "per input and no 'contents', or no raw contents"
        )
    for each in (*message.inputs, *message.outputs):
        for key in each.parameters:
            refuse_extensions(key)
    return InferRequest(
        model=message.model_name,
        version=message.model_version,
        inputs=[_input(each, raw[index] if raw else None) for index, each in enumerate(message.inputs)],
        id=message.id,
        parameters=_values(message.parameters),
        outputs=[WantedOutput(each.name) for each in message.outputs] or None,
        binary=bool(raw),
    )


def write_message(response: InferResponse, request: InferRequest) -> ModelInferResponse:
    """Return the message of a response, raw if that of the request was; call it from a worker."""
    message = ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for tensor in response.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if request.binary:
            message.raw_output_contents.append(to_raw(tensor))
        else:
            values = tensor.data if isinstance(tensor.data, list) else tensor.data.ravel().tolist()
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
    return message


def tensor_metadata(specs: Iterable[TensorSpec]) -> list[ModelMetadataResponse.TensorMetadata]:
    """Describe inputs or outputs."""
    return [
        ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs
    ]


def _input(described: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    name, datatype = described.name, described.datatype
    shape = checked_shape(name, list(described.shape))
    if raw is not None:
        return from_raw(name, datatype, shape, raw)
    if datatype == "BYTES":
        elements = list(described.contents.bytes_contents)
        check_count(name, shape, len(elements))
        return Tensor(name, datatype, shape, elements)
    if datatype == "UINT8":
        return Tensor(name, datatype, shape, _pixels(name, shape, described.contents))
    raise TensorError(f"input {name[:80]!r} has the datatype {datatype[:80]!r}; inputs are BYTES or UINT8")


def _pixels(name: str, shape: Sequence[int], contents: InferTensorContents) -> np.ndarray:
    values = np.fromiter(contents.uint_contents, np.uint32, len(contents.uint_contents))
    check_count(name, tuple(shape), len(values))
    if values.size and values.max() > 255:
        raise TensorError(f"input {name!r} has values above 255, the largest of UINT8")
    return values.astype(np.uint8)


def _values(parameters: Mapping[str, InferParameter]) -> list[tuple[str, object]]:
    return [(key, getattr(value, str(value.WhichOneof("parameter_choice")), None)) for key, value in parameters.items()]
