"""Inference as the Open Inference Protocol has it: tensors in, tensors out, over HTTP or gRPC.

A request without a list of outputs gets all that the model advertises. So there are two models for each model of the
store: `M` predicts, and `M:explain` explains as well. A name in the store can't contain a colon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from app.api.protocols.images import DATATYPES, ENCODED, PIXELS
from app.api.protocols.parameters import options, refuse_without_output, version_number
from app.api.protocols.tensors import InferRequest, InferResponse, Tensor
from app.api.questions import question_of, style_of
from app.api.schemas import ExplainParameters, PredictParameters
from app.arrays import Float32Array
from app.artifact.manifest import Manifest
from app.errors import QuestionError, UnknownNameError
from app.imaging.network_input import InputImage
from app.serving.analyzer import Drawing
from app.serving.answers import Explanation, Prediction
from app.serving.interface import ModelChoice
from app.serving.service import Service

T = TypeVar("T")
Shape = tuple[int, ...]

EXPLAIN = ":explain"
# The binary form of an artefact, in the protocol's words ("Platforms").
PLATFORM = "tensorflow_savedmodel"
OVERLAY = "overlay"
_REGION_SHARE = "region_share"
# The share of heat of an image in which the organ was not found, or whose map is empty: a tensor has no null.
NO_SHARE = -1.0


@dataclass(frozen=True, slots=True)
class Address:
    """The model that a request names: `name` in the store, `version` if it names one, and whether it `explains`."""

    name: str
    version: int | None
    explains: bool

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(self.name, self.version)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or returns; -1 in `shape` is a free size."""

    name: str
    datatype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class _Output(Generic[T]):
    """An output: its datatype, its shape for one image, and its content for several results."""

    datatype: str
    shape: Callable[[Manifest], Shape]
    content: Callable[[Sequence[T]], list[bytes] | Float32Array]

    def tensor(self, name: str, manifest: Manifest, results: Sequence[T]) -> Tensor:
        """Return the tensor `name` of several results."""
        return Tensor(name, self.datatype, (len(results), *self.shape(manifest)), self.content(results))


def _probabilities(results: Sequence[Prediction]) -> Float32Array:
    return np.array([list(result.probabilities.values()) for result in results], np.float32)


def _novelty(results: Sequence[Prediction]) -> Float32Array:
    # Zero for a model without a novelty score, as from the SavedModel: a tensor has no null.
    return np.array([result.novelty.score if result.novelty else 0.0 for result in results], np.float32)


def _region_share(results: Sequence[Explanation]) -> Float32Array:
    shares = [None if result.region is None else result.region.share_of_heat for result in results]
    return np.array([NO_SHARE if share is None else share for share in shares], np.float32)


_PREDICTION: dict[str, _Output[Prediction]] = {
    "label": _Output("BYTES", lambda _: (), lambda results: [result.label.encode() for result in results]),
    "probabilities": _Output("FP32", lambda manifest: (len(manifest.classes),), _probabilities),
    "novelty": _Output("FP32", lambda _: (), _novelty),
}
_EXPLANATION: dict[str, _Output[Explanation]] = {
    "heatmap": _Output(
        "FP32",
        lambda manifest: (manifest.feature_layer.height, manifest.feature_layer.width),
        lambda results: np.stack([result.heatmap.values for result in results]).astype(np.float32),
    ),
    OVERLAY: _Output(
        "BYTES", lambda _: (), lambda results: [result.overlay.data for result in results if result.overlay]
    ),
    _REGION_SHARE: _Output("FP32", lambda _: (), _region_share),
}


def address_of(name: str, version: str = "") -> Address:
    """Return the model that `name` and `version`, empty if there is none, stand for.

    Raises:
        UnknownModelError: if `version` is not a number.
    """
    stored = name.removesuffix(EXPLAIN)
    return Address(stored, version_number(stored, version) if version else None, stored != name)


def inputs_of(manifest: Manifest) -> list[TensorSpec]:
    """Return the inputs of a model, of which a request sends one."""
    spec = manifest.input
    return [
        TensorSpec(ENCODED, DATATYPES[ENCODED], (-1,)),
        TensorSpec(PIXELS, DATATYPES[PIXELS], (-1, spec.height, spec.width, spec.channels)),
    ]


def outputs_of(manifest: Manifest, *, explains: bool) -> list[TensorSpec]:
    """Return the outputs of a model, in the order in which they are returned."""
    tables = (_PREDICTION, _EXPLANATION) if explains else (_PREDICTION,)
    return [
        TensorSpec(name, output.datatype, (-1, *output.shape(manifest)))
        for table in tables
        for name, output in table.items()
        if name != _REGION_SHARE or manifest.region is not None
    ]


async def infer(
    service: Service, request: InferRequest, images: Sequence[InputImage], query: Iterable[tuple[str, str]] = ()
) -> InferResponse:
    """Answer a request about `images`, those of its inputs.

    Args:
        service: the service that answers.
        request: the request.
        images: the images.
        query: parameters beside those of the request.

    Raises:
        LightboxError: if it can't be answered; the subclass says why.
        RequestValidationError: if the value of a parameter is not valid.
    """
    if address_of(request.model).explains:
        return await _explain(service, request, images, query)
    return await _predict(service, request, images, query)


async def _predict(
    service: Service, request: InferRequest, images: Sequence[InputImage], query: Iterable[tuple[str, str]]
) -> InferResponse:
    parameters = options(PredictParameters, request.model, request.version, request.parameters, query)
    refuse_without_output({"top": parameters.top})
    names = _wanted(request, list(_PREDICTION))
    answer = await service.models.predict(_choice(parameters), images, frame=parameters.frame)
    tensors = await service.workers.run(lambda: _tensors(answer.manifest, names, answer.results, ()))
    return InferResponse(request.model, str(answer.manifest.version), request.id, tensors)


async def _explain(
    service: Service, request: InferRequest, images: Sequence[InputImage], query: Iterable[tuple[str, str]]
) -> InferResponse:
    name = address_of(request.model).name
    parameters = options(ExplainParameters, name, request.version, request.parameters, query)
    unanswered = {name: getattr(parameters, name) for name in ("top", "all_classes", "faithfulness")}
    refuse_without_output(unanswered)
    manifest = await service.models.manifest(_choice(parameters))
    advertised = [
        spec.name for spec in outputs_of(manifest, explains=True) if parameters.overlay or spec.name != OVERLAY
    ]
    names = _wanted(request, advertised)
    drawing = Drawing(style_of(parameters)) if OVERLAY in names else None
    answer = await service.models.explain(
        _choice(parameters), images, question_of(parameters), drawing, frame=parameters.frame
    )
    predictions = [explanation.prediction for explanation in answer.results]
    tensors = await service.workers.run(lambda: _tensors(answer.manifest, names, predictions, answer.results))
    return InferResponse(request.model, str(answer.manifest.version), request.id, tensors)


def _tensors(
    manifest: Manifest, names: Sequence[str], predictions: Sequence[Prediction], explanations: Sequence[Explanation]
) -> list[Tensor]:
    """Return the outputs `names` of several images; those of an explanation need `explanations`."""
    return [
        _PREDICTION[name].tensor(name, manifest, predictions)
        if name in _PREDICTION
        else _EXPLANATION[name].tensor(name, manifest, explanations)
        for name in names
    ]


def _choice(parameters: PredictParameters) -> ModelChoice:
    return ModelChoice(parameters.model, parameters.version)


def _wanted(request: InferRequest, advertised: Sequence[str]) -> list[str]:
    """Return the names of the outputs that `request` asks for, all that are advertised if it names none."""
    names = [wanted.name for wanted in request.outputs or ()]
    for name in names:
        if name not in advertised:
            raise UnknownNameError("output", name, advertised)
    if len(set(names)) != len(names):
        raise QuestionError("an output is requested more than once")
    return names or list(advertised)
