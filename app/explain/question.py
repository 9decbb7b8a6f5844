"""Questions about an image, expressed as a target vector over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array
from app.errors import QuestionError, UnknownNameError
from app.explain.cams import cam_method, check_answerable

# Each class needs a gradient of the size of the features, for every image of a batch.
MAX_CLASS_MAPS = 32
_ZERO = np.float32(0)  # adding it turns a negative zero into a positive one


@dataclass(frozen=True, slots=True)
class Question:
    """A question about an image: where is the evidence for a class?

    `class_name` is the class, or None for the predicted one. With `against`, the question is why the model prefers the
    class to that one. `counterfactual` asks for the evidence against the class instead. `all_classes` adds a heatmap
    for every class, `faithfulness` the judgement of the heatmap, and `outline` the border of the organ that the model
    locates.

    The method `target` defines the meaning of these fields; the other methods follow from it.
    """

    class_name: str | None = None
    against: str | None = None
    method: str = "gradcam"
    counterfactual: bool = False
    all_classes: bool = False
    faithfulness: bool = False
    outline: bool = False

    def check(self, classes: Sequence[str], *, locates_organ: bool = False) -> None:
        """Check that a model with these `classes`, which locates an organ or does not, can answer the question.

        Raises:
            UnknownNameError: if the model has no such class, or there is no such method.
            QuestionError: if the model or the method can't answer the question.
        """
        check_answerable(
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
            raise QuestionError(f"'class' and 'against' are both {self.against!r}; they must be two classes")
        if self.outline and not locates_organ:
            raise QuestionError("'outline' draws the border of an organ, and this model locates none; leave it out")
        if self.all_classes and len(classes) > MAX_CLASS_MAPS:
            raise QuestionError(
                f"'all_classes' supports at most {MAX_CLASS_MAPS} classes, and this model has {len(classes)}; ask for "
                "one 'class' at a time"
            )

    def explained_class(self, predicted: str) -> str | None:
        """Return the class that the heatmap explains, or None if the method is not class-specific.

        Raises:
            QuestionError: if `against` is the predicted class, and `class_name` is None.
        """
        if self.class_name is None and self.against == predicted:
            raise QuestionError(f"'against' is {self.against!r}, which is the predicted class; add another 'class'")
        return (self.class_name or predicted) if cam_method(self.method).class_specific else None

    def target(self, classes: Sequence[str], predicted: str) -> Float32Array:
        """Return the vector over the logits whose score is explained, float32 `[classes]`.

        It is the one-hot vector of the class, minus that of `against`, times -1 if the question is counterfactual;
        zeros if the method is not class-specific. The runtime differentiates this vector, the receipt records it, and
        faithfulness is judged by it.
        """
        if not cam_method(self.method).class_specific:
            return np.zeros(len(classes), np.float32)
        difference = _one_hot(classes, self.class_name or predicted) - _one_hot(classes, self.against)
        return _ZERO + self._sign * difference

    def rows(self, classes: Sequence[str]) -> Float32Array:
        """Return the vectors for the runtime to differentiate, float32 `[T, classes]`; zeros mean the predicted class.

        If `class_name` is given or the method is not class-specific, the first row is the target. Otherwise the target
        depends on the prediction, which the same pass computes. Then a row of zeros stands for the predicted class, a
        second row for `against`, if given, and `gradient` adds their gradients. With `all_classes`, one row for every
        class follows.
        """
        if self.class_name is not None or not cam_method(self.method).class_specific:
            rows = self.target(classes, "")[None]
        elif self.against is None:
            rows = _one_hot(classes, None)[None]
        else:
            rows = np.stack([_one_hot(classes, None), -self._sign * _one_hot(classes, self.against)])
        one_each = self._sign * np.eye(len(classes), dtype=np.float32)
        return np.concatenate([rows, one_each]) if self.all_classes else rows

    def gradient(self, gradients: Float32Array) -> Float32Array:
        """Return the gradient of the target's score, `[h, w, K]`, from the gradients of its `rows`, `[T, h, w, K]`.

        The gradient is linear in the target, so the gradient of a sum is the sum of the gradients.
        """
        if self.class_name is not None:
            return gradients[0]
        predicted = self._sign * gradients[0]
        return predicted if self.against is None else predicted + gradients[1]

    def class_gradients(self, gradients: Float32Array) -> Float32Array:
        """Return the part of `gradients` `[T, h, w, K]` that `all_classes` adds, `[classes, h, w, K]`."""
        return gradients[2 if self.class_name is None and self.against is not None else 1 :]

    def description(self, explained_class: str | None) -> str:
        """Describe the question about `explained_class` in a phrase for people."""
        if explained_class is None:
            return f"{self.method}, not class-specific"
        contrast = f" rather than {self.against}" if self.against else ""
        direction = "against" if self.counterfactual else "for"
        return f"{self.method} of the evidence {direction} {explained_class}{contrast}"

    @property
    def _sign(self) -> np.float32:
        return np.float32(-1.0 if self.counterfactual else 1.0)


def target_probability(target: Float32Array, probabilities: Float32Array) -> float:
    """Return the probability, 0..1, by which a heatmap for `target` `[classes]` is judged.

    If the target has positive entries only, it is their total probability p; with negative entries only, 1 minus their
    total q; with both, p / (p + q), or 0.5 if p and q are 0.
    """
    raised, lowered = (float(probabilities[sign * target > 0].sum()) for sign in (1, -1))
    if not (target < 0).any():
        return raised
    if not (target > 0).any():
        return 1.0 - lowered
    return raised / (raised + lowered) if raised + lowered else 0.5


def _one_hot(classes: Sequence[str], name: str | None) -> Float32Array:
    return np.array([name == other for other in classes], np.float32)
