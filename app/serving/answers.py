"""What the service knows of an image once the model has been asked."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from app.explain.cams import Heatmap, HeatmapSeries
from app.explain.faithfulness import Faithfulness
from app.explain.provenance import Receipt
from app.explain.question import Question
from app.imaging.encoders import EncodedPicture
from app.imaging.picture import AnswerWarning


@dataclass(frozen=True, slots=True)
class Novelty:
    """How far an image lies from what the model was trained on; above `threshold` it is out of distribution."""

    score: float
    threshold: float

    @property
    def out_of_distribution(self) -> bool:
        return self.score > self.threshold


@dataclass(frozen=True, slots=True)
class Original:
    """What an image was, upright: its size in pixels, the container that it came in, and what to mind about it."""

    width: int
    height: int
    format: str
    warnings: tuple[AnswerWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer: `probabilities` by class name, in logit order; `novelty` None where the model has none.

    `warnings` are what a reader of the answer has to mind.
    """

    original: Original
    probabilities: dict[str, float]
    novelty: Novelty | None
    warnings: tuple[AnswerWarning, ...] = ()

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def top(self, count: int) -> dict[str, float]:
        """The `count` most probable classes, the best first."""
        return dict(sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count])


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction and its reasons.

    `class_name` is the class that `question` was answered for, None for a method that knows no classes. `class_maps`,
    where they were asked for, are those of every class, in logit order. `picture` is the overlay, mode `RGB`, and
    `overlay` the same as a file: None where they were not wanted. `faithfulness` is None where it was not asked for, or
    where there is no heat to judge.
    """

    prediction: Prediction
    question: Question
    class_name: str | None
    layer: str
    heatmap: Heatmap
    class_maps: HeatmapSeries | None
    picture: Image.Image | None
    overlay: EncodedPicture | None
    faithfulness: Faithfulness | None
    receipt: Receipt
    warnings: tuple[AnswerWarning, ...]
