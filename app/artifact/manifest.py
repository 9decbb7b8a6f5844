"""The manifest of an artefact, `manifest.json`, which says what its inputs and outputs mean."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from app.errors import ManifestError
from app.imaging.geometry import WHOLE, Box, Fit, Resize

MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")

DEFAULT_INTENDED_USE = (
    "Research use only. Not a medical device. The heatmap highlights what the model used, not lesions."
)


Task = Literal["single_label", "multi_label"]
DEFAULT_THRESHOLD = 0.5


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Expectation(_Frozen):
    """The values that the model expects in a DICOM header; an empty field accepts any value.

    The values are defined terms of the DICOM elements `modality` (0008,0060), `body_part` (0018,0015) and `view`
    (0018,5101); see DICOM PS3.6.
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()


ANYTHING = Expectation()


class InputSpec(_Frozen):
    """The input of the network: uint8 images `[height, width, channels]`, and how an image is fitted to that size.

    `fit` determines which part of the image is used, `resize` how its pixels are resampled.
    """

    height: PositiveInt
    width: PositiveInt
    channels: Literal[1, 3]
    fit: Fit
    resize: Resize = "antialias"
    expects: Expectation = ANYTHING


class FeatureLayer(_Frozen):
    """The layer whose features explanations use: its name and the shape of its output, without the batch axis.

    `region` is the part of the input that the features cover, as (left, top, right, bottom) in shares of its width and
    height, if the network crops or pads its input. It may exceed 0..1. None is the whole input.
    """

    name: str
    height: PositiveInt
    width: PositiveInt
    channels: PositiveInt
    region: Box | None = None

    @field_validator("region")
    @classmethod
    def _has_an_extent(cls, region: Box | None) -> Box | None:
        if region is not None and not (region[0] < region[2] and region[1] < region[3]):
            raise ValueError(f"a region is (left, top, right, bottom), left of right and top of bottom; got {region}")
        return region

    @property
    def box(self) -> Box:
        """The part of the input that the features cover, also if that is all of it."""
        return WHOLE if self.region is None else self.region


class NoveltySpec(_Frozen):
    """The method of the novelty score, and the score above which an image is out of distribution."""

    method: str
    threshold: float


class HeatThresholds(_Frozen):
    """The thresholds of one CAM method, above which a heatmap is unlike those of the training images.

    `border_heat` is the fraction of heat at the border of the input, and `diffuse_heat` the entropy of the heat
    (`border_share` and `diffuseness` in `app.explain.warnings`), both in 0..1.
    """

    border_heat: float
    diffuse_heat: float


class WarningThresholds(_Frozen):
    """The thresholds of warnings, measured on `films` training images.

    `heat` contains, by CAM method, the `quantile` over their heatmaps for the predicted class. `low_margin` is the
    (1 - `quantile`) of the difference between their two highest probabilities, or None if there is only one class.
    """

    quantile: Annotated[float, Field(gt=0.5, lt=1)]
    films: PositiveInt
    low_margin: float | None
    heat: dict[str, HeatThresholds]


class RegionSpec(_Frozen):
    """The organ that the model locates in each image with its output `regions`, and thresholds.

    The features are those ahead of any gate that multiplies them by the region, so that the heat can tell where the
    network looked. `gated` says that the head has such a gate. The region is found in an image if it covers more than
    `min_share_of_image` of it; a model that finds nothing answers zeros. `min_share_of_heat` has, by CAM method, the
    smallest share of the heat that usually lies in the region, measured on training images; a method without one has no
    warning.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    gated: bool = False
    min_share_of_image: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_share_of_heat: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)


class SelfTestSpec(_Frozen):
    """The golden cases, `cases` of them in `file`, and the tolerances of a replay.

    `probability_tolerance` is absolute. `relative_tolerance`, for logits, novelty and maps, is relative to the largest
    absolute value in the golden cases.
    """

    file: str
    cases: PositiveInt
    probability_tolerance: Annotated[float, Field(gt=0)]
    relative_tolerance: Annotated[float, Field(gt=0)]


class SanitySpec(_Frozen):
    """The result of the sanity check of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.

    The check randomises one layer after the other, from the logits down. `correlations` are the mean Spearman
    correlations of the heatmaps with the original ones after each layer, and `control` those of an edge detector, which
    does not depend on the weights. If the last correlation is `limit` or more, the heatmaps do not depend on what the
    network has learnt.
    """

    cases: PositiveInt
    correlations: tuple[float, ...]
    control: tuple[float, ...]
    limit: float

    @property
    def passed(self) -> bool:
        return not self.correlations or self.correlations[-1] < self.limit


class Manifest(_Frozen):
    """The content of `manifest.json`, schema version 1.

    `classes` are in logit order. With the `task` `single_label` exactly one class holds, and probabilities are softmax;
    with `multi_label` each class holds or not by itself, and probabilities are sigmoids. `thresholds`, in the order of
    `classes`, are the probabilities from which on a class of a multi-label model holds; None is 0.5 for each.
    `temperature` divides the logits before the softmax or sigmoid (Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017). `region` is None if the model has no output `regions`. `cautions` (the thresholds of
    warnings), `self_test` and `sanity` are None in artefacts that were exported before these existed; `cautions` is
    also None if the training images are unknown. `files` maps every other file of the entry to its SHA-256.
    """

    schema_version: Literal[1] = 1
    name: str
    version: PositiveInt
    created: datetime
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    task: Task = "single_label"
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    input: InputSpec
    feature_layer: FeatureLayer
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    novelty: NoveltySpec | None = None
    region: RegionSpec | None = None
    cautions: WarningThresholds | None = None
    self_test: SelfTestSpec | None = None
    sanity: SanitySpec | None = None
    training: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    intended_use: str = DEFAULT_INTENDED_USE
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _is_a_model_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid model name: use at most 128 letters, digits, '.', '_' and '-'")
        return name

    @model_validator(mode="after")
    def _has_distinct_classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError(f"class names must be distinct and not empty: {list(self.classes)}")
        return self

    @model_validator(mode="after")
    def _has_a_threshold_for_each_class(self) -> Self:
        if self.thresholds is not None and self.task != "multi_label":
            raise ValueError("only a multi_label model has thresholds")
        if self.thresholds is not None and len(self.thresholds) != len(self.classes):
            raise ValueError(f"there are {len(self.thresholds)} thresholds for {len(self.classes)} classes")
        return self

    def threshold(self, class_name: str) -> float:
        """Return the probability from which on `class_name` holds, by itself, in a multi-label model."""
        return DEFAULT_THRESHOLD if self.thresholds is None else self.thresholds[self.classes.index(class_name)]


def read_manifest(entry: Path) -> Manifest:
    """Read the manifest of `entry`, a version folder.

    The path of the folder in a store determines name and version, as in TensorFlow Serving, so that artefacts can be
    copied.

    Raises:
        ManifestError: if it is missing, not JSON or invalid; the message names the fields.
    """
    path = entry / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} can't be read: {error}") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"{path} is not a valid manifest: {faults}") from error
    name, version = entry.resolve().parts[-2:]
    if not (NAME.fullmatch(name) and VERSION.fullmatch(version)):
        return manifest
    return manifest.model_copy(update={"name": name, "version": int(version)})
