"""Answers of KServe V1 and TensorFlow Serving as JSON: one object per image, or one list per output.

Call these functions in a worker, as large answers take time.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from app.api.protocols.inference import OVERLAY
from app.api.protocols.tensors import InferResponse, Tensor
from app.api.schemas import ExplanationOut, PredictionOut
from app.api.serializers import explanation_out, prediction_json, prediction_text
from app.serving.answers import Explanation, Prediction
from app.serving.interface import Answer

# What `/explain` answers beside what `/predict` does.
_EXPLANATION = frozenset(ExplanationOut.model_fields.keys() - PredictionOut.model_fields.keys())


def prediction_rows(request_id: str, answer: Answer[Prediction], top: int | None) -> bytes:
    """Return `predictions`, in which each is the response of `/predict` to its image."""
    rows = [prediction_json(request_id, answer.manifest, result, top) for result in answer.results]
    return b'{"predictions":[%b]}' % b",".join(rows)


def explanation_rows(request_id: str, answer: Answer[Explanation], top: int | None) -> bytes:
    """Return `predictions`, and `explanations`: for each image what `/explain` answers beside, such as the receipt."""
    outs = [explanation_out(request_id, answer.manifest, result, top) for result in answer.results]
    predictions = ",".join(prediction_text(out, without=_EXPLANATION) for out in outs)
    explanations = ",".join(_explanation(out) for out in outs)
    return f'{{"predictions":[{predictions}],"explanations":[{explanations}]}}'.encode()


def _explanation(answer: ExplanationOut) -> str:
    """Return the explanation of an image, and beside its own fields what goes with it."""
    beside = answer.model_dump_json(by_alias=True, include=set(_EXPLANATION - {"explanation"}))
    return f"{answer.explanation.model_dump_json(by_alias=True)[:-1]},{beside[1:]}"


def columns(response: InferResponse) -> bytes:
    """Return `outputs`: the tensors of the Open Inference Protocol, nested as TensorFlow Serving nests them."""
    return json.dumps({"outputs": {tensor.name: _column(tensor) for tensor in response.outputs}}).encode()


def _column(tensor: Tensor) -> list[Any]:
    if not isinstance(tensor.data, list):
        return tensor.data.reshape(tensor.shape).tolist()
    if tensor.name == OVERLAY:
        return [{"b64": base64.b64encode(element).decode("ascii")} for element in tensor.data]
    return [element.decode() for element in tensor.data]
