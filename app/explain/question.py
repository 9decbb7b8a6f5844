"""A question about an image, as a target over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array
from app.errors import QuestionError, UnknownNameError
from app.explain.cams import cam_method, refuse_unanswerable

# Each class more is one more gradient of the features' size in memory, for every image of a batch.
MAX_CLASS_MAPS = 32
_ZERO = np.float32(0)  # added, it takes the sign off a negative zero


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain about an image.

    `class_name` None asks for the predicted class; with `against`, why that class and not the other; `counterfactual`,
    what speaks against it. `all_classes` adds a map for every class; `faithfulness`, how far the map is to be believed.

    `target` is the one place that says what this means. The other methods follow from it.
    """

    class_name: str | None = None
    against: str | None = None
    method: str = "gradcam"
    counterfactual: bool = False
    all_classes: bool = False
    faithfulness: bool = False

    def check(self, classes: Sequence[str]) -> None:
        """Check that a model of `classes` can answer it.

        Raises:
            QuestionError: it can't; the subclass `UnknownNameError` for a name that the model does not have.
        """
        refuse_unanswerable(
            self.method,
            class_name=self.class_name,
            against=self.against,
            counterfactual=self.counterfactual,
            all_classes=self.all_classes,
        )
        for name in (self.class_name, self.against):
            if name is not None and name not in classes:
                raise UnknownNameError("class", name, classes)
        if self.against is not None and self.against == self.class_name:
            raise QuestionError(f"'class' and 'against' are both {self.against!r}; ask about two classes")
        if self.all_classes and len(classes) > MAX_CLASS_MAPS:
            raise QuestionError(
                f"'all_classes' answers for models of at most {MAX_CLASS_MAPS} classes; this one has {len(classes)}: "
                "ask for one 'class' at a time"
            )

    def explained(self, predicted: str) -> str | None:
        """The class whose evidence the map shows; None for a method that knows no classes.

        Raises:
            QuestionError: the predicted class turns out to be the one that it is to be set against.
        """
        if self.class_name is None and self.against == predicted:
            raise QuestionError(f"{self.against!r} is the predicted class itself; say which 'class' to explain")
        return (self.class_name or predicted) if cam_method(self.method).class_specific else None

    def target(self, classes: Sequence[str], predicted: str) -> Float32Array:
        """The vector over the logits whose score is explained, float32 `[classes]`.

        One-hot of the class, less one-hot of `against`, all times -1 where the question is counterfactual; zeros for a
        method that knows no classes. This vector is what is differentiated, what the receipt records and what
        faithfulness judges.
        """
        if not cam_method(self.method).class_specific:
            return np.zeros(len(classes), np.float32)
        difference = _one_hot(classes, self.class_name or predicted) - _one_hot(classes, self.against)
        return _ZERO + self._sign * difference

    def rows(self, classes: Sequence[str]) -> Float32Array:
        """What the runtime differentiates, float32 `[T, classes]`; a row of zeros is the predicted class.

        For a named class, the target itself. Otherwise nobody knows the predicted class yet: then the rows are the two
        parts of the target that need no knowledge of it, the predicted class and what it is set against, and
        `gradient` adds up their gradients. With `all_classes`, one row for every class follows.
        """
        if self.class_name is not None or not cam_method(self.method).class_specific:
            rows = self.target(classes, "")[None]
        elif self.against is None:
            rows = _one_hot(classes, None)[None]
        else:
            rows = np.stack([_one_hot(classes, None), -self._sign * _one_hot(classes, self.against)])
        every = self._sign * np.eye(len(classes), dtype=np.float32)
        return np.concatenate([rows, every]) if self.all_classes else rows

    def gradient(self, gradients: Float32Array) -> Float32Array:
        """The gradient `[h, w, K]` of the target's score, from those of its `rows` `[T, h, w, K]`.

        A gradient is linear in its target, so that those of a sum add up.
        """
        if self.class_name is not None:
            return gradients[0]
        predicted = self._sign * gradients[0]
        return predicted if self.against is None else predicted + gradients[1]

    def class_gradients(self, gradients: Float32Array) -> Float32Array:
        """The gradients of every class `[classes, h, w, K]`, where `all_classes` asks for them."""
        return gradients[2 if self.class_name is None and self.against is not None else 1 :]

    def words(self, explained: str | None) -> str:
        """The question about the class `explained` as a phrase, for people."""
        contrast = f" against {self.against}" if self.against else ""
        speaks = "against" if self.counterfactual else "for"
        return f"{self.method} of what speaks {speaks} {explained or 'no class'}{contrast}"

    @property
    def _sign(self) -> np.float32:
        return np.float32(-1.0 if self.counterfactual else 1.0)


def target_probability(target: Float32Array, probabilities: Float32Array) -> float:
    """How probable the answer is that `target` `[classes]` speaks for, 0..1: what a map of its evidence is judged by.

    Of the classes that the target raises, against those that it lowers, where it has both; the probability of the
    class that it raises, or one less that of the class that it lowers, where it has one.
    """
    raised, lowered = (float(probabilities[sign * target > 0].sum()) for sign in (1, -1))
    if not (target < 0).any():
        return raised
    if not (target > 0).any():
        return 1.0 - lowered
    return raised / (raised + lowered) if raised + lowered else 0.5


def _one_hot(classes: Sequence[str], name: str | None) -> Float32Array:
    return np.array([name == other for other in classes], np.float32)
