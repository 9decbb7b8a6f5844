"""Answers of KServe V1 and TensorFlow Serving as JSON: one object per image, or one list per output.

Call these functions in a worker, as large answers take time.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from app.api.protocols.inference import OVERLAY
from app.api.protocols.tensors import InferResponse, Tensor
from app.api.serializers import explanation_out, prediction_json, prediction_text
from app.serving.answers import Explanation, Prediction
from app.serving.interface import Answer

_EXPLANATION = frozenset({"explanation", "receipt"})


def prediction_rows(request_id: str, answer: Answer[Prediction], top: int | None) -> bytes:
    """Return `predictions`, in which each is the response of `/predict` to its image."""
    rows = [prediction_json(request_id, answer.manifest, result, top) for result in answer.results]
    return b'{"predictions":[%b]}' % b",".join(rows)


def explanation_rows(request_id: str, answer: Answer[Explanation], top: int | None) -> bytes:
    """Return `predictions`, and `explanations`, in which each is the `explanation` of `/explain` with its `receipt`."""
    outs = [explanation_out(request_id, answer.manifest, result, top) for result in answer.results]
    predictions = ",".join(prediction_text(out, without=_EXPLANATION) for out in outs)
    explanations = ",".join(
        f'{out.explanation.model_dump_json(by_alias=True)[:-1]},"receipt":{out.receipt.model_dump_json()}}}'
        for out in outs
    )
    return f'{{"predictions":[{predictions}],"explanations":[{explanations}]}}'.encode()


def columns(response: InferResponse) -> bytes:
    """Return `outputs`: the tensors of the Open Inference Protocol, nested as TensorFlow Serving nests them."""
    return json.dumps({"outputs": {tensor.name: _column(tensor) for tensor in response.outputs}}).encode()


def _column(tensor: Tensor) -> list[Any]:
    if not isinstance(tensor.data, list):
        return tensor.data.reshape(tensor.shape).tolist()
    if tensor.name == OVERLAY:
        return [{"b64": base64.b64encode(element).decode("ascii")} for element in tensor.data]
    return [element.decode() for element in tensor.data]
