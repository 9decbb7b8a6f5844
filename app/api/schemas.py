"""The JSON contract of the HTTP interface, and nothing else."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Query(BaseModel):
    # A misspelt parameter must not silently answer another question.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelQuery(_Query):
    """The query parameters of `/models/<name>`."""

    version: int | None = Field(None, ge=1, description="Version of the model; default: the one that is served")


class PredictQuery(ModelQuery):
    """The query parameters of `/predict`."""

    model: str | None = Field(None, description="Name of a model in the store; default: the default model")
    frame: int | None = Field(None, ge=1, description="Which frame of a DICOM object that has several, from 1")
    top: int | None = Field(None, ge=1, description="Also list so many of the most probable classes, the best first")


class ExplainQuery(PredictQuery):
    """The query parameters of `/explain`."""

    class_name: str | None = Field(None, alias="class", description="Class to explain; default: the predicted one")
    against: str | None = Field(None, description="Explain why `class` and not this one")
    counterfactual: bool = Field(default=False, description="Explain what speaks against the class instead")
    all_classes: bool = Field(default=False, description="Add a map for every class, all on one scale")
    faithfulness: bool = Field(
        default=False, description="Judge how far the map is to be believed; asks the model about many variants"
    )
    method: str = Field("gradcam", description="CAM method")
    overlay: bool = Field(default=True, description="Draw the overlay; `false` leaves it out of the JSON")
    format: str = Field("png", description="Format of the overlay: png, jpeg or webp")
    alpha: float = Field(0.5, ge=0, le=1, description="Strength of the overlay; 0 gives the image back")
    colormap: str = Field("jet", description="Colours of the overlay")

    @field_validator("method")
    @classmethod
    def _plus_was_meant(cls, method: str) -> str:
        """In a query a plus sign means a space; `method=gradcam++`, typed by hand, arrives as `gradcam` and two."""
        return method.replace(" ", "+")


class ModelRef(BaseModel):
    name: str
    version: int


class NoveltyOut(BaseModel):
    score: float
    threshold: float
    out_of_distribution: bool


class ImageOut(BaseModel):
    width: int
    height: int
    format: str


class WarningOut(BaseModel):
    """What a reader of the answer has to mind: `code` for programs, `detail` for people."""

    code: str
    detail: str


class ClassProbability(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")
    probability: float


class PredictionOut(BaseModel):
    """The answer of `/predict`; `top_k` only where `top` asks for it."""

    id: str
    model: ModelRef
    label: str
    probability: float
    probabilities: dict[str, float]
    top_k: list[ClassProbability] | None = None
    novelty: NoveltyOut | None
    image: ImageOut
    warnings: list[WarningOut]
    notice: str


class HeatmapOut(BaseModel):
    """The heatmap at the feature grid's size: `values` 0..1, row by row; `raw_max` in units of the logit."""

    height: int
    width: int
    values: list[list[float]]
    raw_max: float


class OverlayOut(BaseModel):
    """The encoded overlay; `data` is base64."""

    media_type: str
    width: int
    height: int
    data: str


class ClassMapOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")
    values: list[list[float]]


class ClassMapsOut(BaseModel):
    """A map for every class on one scale: `values` are shares of `raw_max`, the highest value of all maps."""

    raw_max: float
    maps: list[ClassMapOut]


class CurveOut(BaseModel):
    """A probability along a curve, for the map and on average for the random ones; areas under it, 0..1."""

    fractions: list[float]
    probabilities: list[float]
    area: float
    random_probabilities: list[float]
    random_area: float


class FaithfulnessOut(BaseModel):
    """How far a map is to be believed (docs/explanations.md).

    Cells are hidden (`deletion`) or revealed (`insertion`) from the hottest on; what is hidden shows the image blurred
    by a Gaussian of `blur_sigma` input pixels. `p_better` is how often a map of the same heat in a random place does
    as well; `images` is what the model had to score.
    """

    deletion: CurveOut
    insertion: CurveOut
    average_drop: float
    average_increase: float
    random_average_drop: float
    random_average_increase: float
    random_maps: int
    p_better: float
    p_worse: float
    better_than_random: bool
    worse_than_random: bool
    blur_sigma: float
    images: int


class ReceiptOut(BaseModel):
    """All that decides the explanation: the same receipt, the same numbers.

    `library` computed the answer; `tensorflow` is its version where that is TensorFlow.
    """

    image_sha256: str
    model: str
    version: int
    model_sha256: str
    method: str
    classes: list[str]
    target: list[float]
    layer: str
    fit: str
    lightbox: str
    library: str
    library_version: str
    tensorflow: str | None


class ExplanationPart(BaseModel):
    """`class` is null for a method that knows no classes, `overlay` where `overlay=false` was asked."""

    model_config = ConfigDict(populate_by_name=True)

    method: str
    class_name: str | None = Field(alias="class")
    against: str | None
    counterfactual: bool
    layer: str
    empty: bool
    heatmap: HeatmapOut
    overlay: OverlayOut | None
    all_classes: ClassMapsOut | None
    faithfulness: FaithfulnessOut | None


class ExplanationOut(PredictionOut):
    """The answer of `/explain`."""

    explanation: ExplanationPart
    receipt: ReceiptOut


class RefusedOut(BaseModel):
    """A version that can't be loaded, and why."""

    version: int
    reason: str


class ModelSummary(BaseModel):
    """One model of the store.

    `default` is the one that answers when none is named. `version` is the one that is served, or None if none is in
    memory; `versions` are in the store, `loaded` in memory.
    """

    name: str
    default: bool
    version: int | None
    versions: list[int]
    loaded: list[int]
    refused: list[RefusedOut]
    device: str | None


class ModelsOut(BaseModel):
    """The answer of `/models`."""

    models: list[ModelSummary]


class ModelOut(ModelSummary):
    """The answer of `/models/<name>`: the manifest's facts, without the file digests, of version `described`."""

    described: int
    created: str
    classes: list[str]
    input: dict[str, Any]
    feature_layer: dict[str, Any]
    temperature: float
    novelty: dict[str, Any] | None
    cautions: dict[str, Any] | None
    self_test: dict[str, Any] | None
    sanity: dict[str, Any] | None
    methods: list[str]
    training: dict[str, Any] | None
    metrics: dict[str, Any] | None
    intended_use: str


class Problem(BaseModel):
    """RFC 9457 problem details; `error` repeats `detail` for clients that look there."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str


class Health(BaseModel):
    status: str
