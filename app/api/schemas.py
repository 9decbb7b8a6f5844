"""Parameters and JSON bodies of the HTTP interface."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Parameters(BaseModel):
    # A misspelt parameter must be an error: ignoring it would answer another question.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelParameters(_Parameters):
    """The parameters of `/models/<name>`."""

    version: int | None = Field(None, ge=1, description="Version of the model. Default: the served version")


class PredictParameters(ModelParameters):
    """The parameters of `/predict`."""

    model: str | None = Field(None, description="Name of a model in the store. Default: the default model")
    frame: int | None = Field(None, ge=1, description="Frame of a DICOM object that has several, counted from 1")
    top: int | None = Field(None, ge=1, description="Also list this many of the most probable classes, the best first")


class ExplainParameters(PredictParameters):
    """The parameters of `/explain`."""

    class_name: str | None = Field(None, alias="class", description="Class to explain. Default: the predicted class")
    against: str | None = Field(None, description="Explain why the model prefers `class` to this class")
    counterfactual: bool = Field(default=False, description="Explain the evidence against the class instead of for it")
    all_classes: bool = Field(default=False, description="Add a heatmap for every class, all on one scale")
    faithfulness: bool = Field(
        default=False, description="Measure how faithful the heatmap is to the model; slow, as it scores many variants"
    )
    outline: bool = Field(
        default=False, description="Draw the border of the organ that the model locates; refused if it locates none"
    )
    method: str = Field("gradcam", description="CAM method")
    overlay: bool = Field(default=True, description="Draw the overlay; with `false` the JSON has none")
    format: str = Field("png", description="Format of the overlay: png, jpeg or webp")
    alpha: float = Field(0.5, ge=0, le=1, description="Opacity of the heatmap in the overlay; 0 shows the image alone")
    colormap: str = Field("jet", description="Colormap of the overlay")

    @field_validator("method")
    @classmethod
    def _restore_plus(cls, method: str) -> str:
        """Undo URL decoding, which turns the plus signs of an unescaped `method=gradcam++` into spaces."""
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
    """A reason to doubt the result: `code` for programs, `detail` for people."""

    code: str
    detail: str


class ClassProbability(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")
    probability: float


class PredictionOut(BaseModel):
    """The response of `/predict`. `top_k` is null unless `top` is given.

    `label` is the most probable class. Only a multi-label model has `labels`: the classes whose probability is at or
    above their threshold, maybe none.
    """

    id: str
    model: ModelRef
    label: str
    probability: float
    probabilities: dict[str, float]
    labels: list[str] | None = None
    top_k: list[ClassProbability] | None = None
    novelty: NoveltyOut | None
    image: ImageOut
    warnings: list[WarningOut]
    notice: str


class HeatmapOut(BaseModel):
    """The heatmap on the feature grid: `values` in 0..1, row by row; `raw_max` in units of the logit."""

    height: int
    width: int
    values: list[list[float]]
    raw_max: float


class OverlayOut(BaseModel):
    """The encoded overlay. `data` is base64."""

    media_type: str
    width: int
    height: int
    data: str


class ClassMapOut(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")
    values: list[list[float]]


class ClassMapsOut(BaseModel):
    """A heatmap for every class on one scale: `values` are fractions of `raw_max`, the maximum over all maps."""

    raw_max: float
    maps: list[ClassMapOut]


class CurveOut(BaseModel):
    """A probability along a curve and the area under it, 0..1, for the heatmap and as the mean of the random maps."""

    fractions: list[float]
    probabilities: list[float]
    area: float
    random_probabilities: list[float]
    random_area: float


class FaithfulnessOut(BaseModel):
    """How faithful a heatmap is to the model (docs/explanations.md).

    `deletion` hides cells and `insertion` reveals them, the hottest first; hidden cells show the image blurred by a
    Gaussian of `blur_sigma` input pixels. `p_better` is the fraction of maps, with the same heat in random places, that
    do as well or better, and `images` the number of images that the model scored.
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


class LocatedOrganOut(BaseModel):
    """What the manifest says about the organ that the model locates, and what decides the answer's `region`."""

    name: str
    gated: bool
    min_share_of_image: float


class ReceiptOut(BaseModel):
    """Everything that determines an explanation: explanations with equal receipts have equal numbers.

    `box` is the part of the network's input that the heatmap covers: left, top, right and bottom as shares. `library`
    ran the model; `tensorflow` repeats its version if it is TensorFlow.
    """

    image_sha256: str
    model: str
    version: int
    model_sha256: str
    method: str
    classes: list[str]
    target: list[float]
    layer: str
    box: list[float]
    region: LocatedOrganOut | None
    fit: str
    resize: str
    lightbox: str
    library: str
    library_version: str
    tensorflow: str | None


class BoxOut(BaseModel):
    """A part of the original image, in pixels; 0, 0 is its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


class OutlineOut(BaseModel):
    """The organ on the grid of the heatmap: `values` are the shares of the cells that belong to it, row by row.

    The border that the overlay shows is where the values, interpolated between the centres of cells, cross one half.
    """

    height: int
    width: int
    values: list[list[float]]


class RegionOut(BaseModel):
    """The organ that the model locates, and how much of the heat lies in it. Shares are in 0..1.

    `share_of_heat` is null if the organ was not found, or the heatmap is empty.
    """

    name: str
    found: bool
    share_of_heat: float | None
    share_of_image: float


class ExplanationPart(BaseModel):
    """The explanation. `class` is null for a method that is not class-specific, `overlay` with `overlay=false`.

    `box` is the part of the image that the heatmap covers if the model crops each image by itself, otherwise null.
    `outline` is null without `outline=true`.
    """

    model_config = ConfigDict(populate_by_name=True)

    method: str
    class_name: str | None = Field(alias="class")
    against: str | None
    counterfactual: bool
    layer: str
    empty: bool
    box: BoxOut | None
    heatmap: HeatmapOut
    overlay: OverlayOut | None
    all_classes: ClassMapsOut | None
    faithfulness: FaithfulnessOut | None
    outline: OutlineOut | None


class ExplanationOut(PredictionOut):
    """The response of `/explain`. `region` is null if the model locates no organ."""

    explanation: ExplanationPart
    region: RegionOut | None
    receipt: ReceiptOut


class RefusedOut(BaseModel):
    """A version that can't be loaded, and the reason."""

    version: int
    reason: str


class ModelSummary(BaseModel):
    """One model of the store.

    `default` says whether it answers requests that name no model. `version` is the served version, or null if none is
    in memory; `versions` are those in the store, `loaded` those in memory.
    """

    name: str
    default: bool
    version: int | None
    versions: list[int]
    loaded: list[int]
    refused: list[RefusedOut]
    device: str | None


class ModelsOut(BaseModel):
    """The response of `/models`."""

    models: list[ModelSummary]


class ModelOut(ModelSummary):
    """The response of `/models/<name>`: the manifest of version `described`, without the file digests."""

    described: int
    created: str
    classes: list[str]
    task: str
    thresholds: list[float] | None
    input: dict[str, Any]
    feature_layer: dict[str, Any]
    temperature: float
    novelty: dict[str, Any] | None
    region: dict[str, Any] | None
    cautions: dict[str, Any] | None
    self_test: dict[str, Any] | None
    sanity: dict[str, Any] | None
    methods: list[str]
    training: dict[str, Any] | None
    metrics: dict[str, Any] | None
    intended_use: str


class Problem(BaseModel):
    """RFC 9457 problem details. `error` repeats `detail` for clients that expect it there."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str


class Health(BaseModel):
    status: str
