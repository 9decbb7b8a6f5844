"""The manifest of an artefact: what a model means, as `manifest.json` says it."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from app.errors import ManifestError
from app.imaging.decoding import Resize
from app.imaging.geometry import Box, Fit

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
    """What a DICOM header may say of an image that the model was made for; an empty field expects nothing.

    Coded terms of DICOM PS3.6: `modality` (0008,0060), `body_part` (0018,0015), `view` (0018,5101).
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()


ANYTHING = Expectation()


class InputSpec(_Frozen):
    """What the network takes: uint8 images `[height, width, channels]`, and how an image is fitted to that.

    `fit` says which part of the image is taken, `resize` how its pixels are resampled.
    """

    height: PositiveInt
    width: PositiveInt
    channels: Literal[1, 3]
    fit: Fit
    resize: Resize = "antialias"
    expects: Expectation = ANYTHING


class FeatureLayer(_Frozen):
    """The layer at which explanations are read: its name and its output's shape, without the batch axis.

    `region` is the part of the input that the features cover, (left, top, right, bottom) in shares of its width and
    height, where a network crops or pads for itself; it may reach outside of 0..1. None is the whole input.
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


class NoveltySpec(_Frozen):
    """How the novelty score was made, and the score above which an image is called out of distribution."""

    method: str
    threshold: float


class HeatThresholds(_Frozen):
    """Of one CAM method: the share of heat in the outer ring of cells, and the entropy of the heat (0..1), above which
    a heatmap is unlike those of the training films.
    """

    border_heat: float
    diffuse_heat: float


class WarningThresholds(_Frozen):
    """From where on an answer calls for a caution, measured on `films` training films.

    `heat` holds, by CAM method, the `quantile` of the films' heatmaps for their predicted class; `low_margin` is the
    (1 - `quantile`) of the difference between their two best probabilities, None where there is one class.
    """

    quantile: Annotated[float, Field(gt=0.5, lt=1)]
    films: PositiveInt
    low_margin: float | None
    heat: dict[str, HeatThresholds]


class SelfTestSpec(_Frozen):
    """The golden cases, `cases` of them in `file`, and how far a replay may be from them.

    `probability_tolerance` is absolute; `relative_tolerance`, for logits, novelty and maps, is a share of the largest
    absolute value that was recorded.
    """

    file: str
    cases: PositiveInt
    probability_tolerance: Annotated[float, Field(gt=0)]
    relative_tolerance: Annotated[float, Field(gt=0)]


class SanitySpec(_Frozen):
    """How heatmaps follow the weights: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.

    `correlations` are mean Spearman correlations of the maps with the original ones, after one more layer at a time was
    randomised, from the logits down; `control` the same for an edge detector, which knows no weights. Maps whose last
    correlation is `limit` or more do not depend on what the network has learnt.
    """

    cases: PositiveInt
    correlations: tuple[float, ...]
    control: tuple[float, ...]
    limit: float

    @property
    def passed(self) -> bool:
        return not self.correlations or self.correlations[-1] < self.limit


class Manifest(_Frozen):
    """What a model means: `manifest.json`, schema version 1.

    `classes` are in logit order. `task` says whether exactly one of them holds (`single_label`, probabilities are a
    softmax) or each by itself (`multi_label`, a sigmoid each). `thresholds`, in the order of `classes`, are the
    probabilities from which on a class of a multi-label model holds; None is 0.5 for each. `temperature` divides the
    logits before the softmax or sigmoid (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    `cautions`, `self_test` and `sanity` are None in artefacts that were packed before there were any, and `cautions`
    where the training films are unknown. `files` maps every other file of the entry to its SHA-256.
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
            raise ValueError(f"{name!r} is no model name: letters, digits, '.', '_' and '-', at most 128")
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
        """The probability from which on `class_name` holds, by itself, in a multi-label model."""
        return DEFAULT_THRESHOLD if self.thresholds is None else self.thresholds[self.classes.index(class_name)]


def read_manifest(entry: Path) -> Manifest:
    """The manifest of `entry`, a version folder.

    Where it lies in a store decides the name and the version, as in TensorFlow Serving: an artefact may be copied.

    Raises:
        ManifestError: it is missing, not JSON, or not valid; the message names the fields.
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
