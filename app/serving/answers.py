"""Predictions and explanations, the results of the analyzer."""

from __future__ import annotations

from dataclasses import dataclass

from app.arrays import Float32Array, UInt8Array
from app.explain.cams import Heatmap, HeatmapSeries
from app.explain.faithfulness import Faithfulness
from app.explain.provenance import Receipt
from app.explain.question import Question
from app.explain.regions import RegionShare
from app.imaging.encoders import EncodedPicture
from app.imaging.geometry import Region
from app.imaging.picture import AnswerWarning


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far an image is from the training data; with a score above `threshold` it is out of distribution."""

    score: float
    threshold: float

    @property
    def out_of_distribution(self) -> bool:
        return self.score > self.threshold


@dataclass(frozen=True, slots=True)
class Original:
    """Facts about the original image: its upright size in pixels, its file format, and warnings about its decoding."""

    width: int
    height: int
    format: str
    warnings: tuple[AnswerWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction: `probabilities` by class name, in logit order, and reasons to doubt it as `warnings`.

    `novelty` is None if the model has no novelty score. `labels` are the classes whose probability is at or above their
    threshold, in logit order, maybe none; None for a single-label model.
    """

    original: Original
    probabilities: dict[str, float]
    novelty: Novelty | None
    warnings: tuple[AnswerWarning, ...] = ()
    labels: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def top(self, count: int) -> dict[str, float]:
        """Return the `count` most probable classes, the best first."""
        return dict(sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count])


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction and the evidence for it.

    `class_name` is the class that the heatmap explains, or None if the method is not class-specific. `class_maps` are
    the heatmaps of all classes, in logit order, or None if `question` does not ask for them. `overlay` is the overlay
    as a file, and `picture` its pixels, uint8 `[height, width, 3]`; a drawing asks for one of them, and the other is
    None. `faithfulness` is None unless requested, and for a heatmap without heat in the image. `warnings`
    includes those of the prediction.

    `box` is the part of the original that the heatmap covers, in pixels, or None if the model does not crop each image
    by itself. `region` says how much of the heat lies in the organ that the model locates, or is None if it locates
    none. `outline` is the share of each cell that belongs to the organ, `[h, w]`, or None unless requested.
    """

    prediction: Prediction
    question: Question
    class_name: str | None
    layer: str
    heatmap: Heatmap
    class_maps: HeatmapSeries | None
    picture: UInt8Array | None
    overlay: EncodedPicture | None
    faithfulness: Faithfulness | None
    receipt: Receipt
    warnings: tuple[AnswerWarning, ...]
    box: Region | None = None
    region: RegionShare | None = None
    outline: Float32Array | None = None
