"""What is asked about an image: as targets over the logits, and how their gradients answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from app.arrays import Float32Array
from app.errors import QuestionError, UnknownNameError
from app.explain.cams import refuse_unanswerable
from app.imaging.overlay import Style

# Each class more is one more gradient of the features' size in memory, for every image of a batch.
MAX_CLASS_MAPS = 32


@dataclass(frozen=True, slots=True)
class Question:
    """What to explain, and how to show it.

    `class_name` None asks for the predicted class; with `against`, why the one and not the other; `counterfactual`,
    what speaks against it. `all_classes` adds a map for every class; `faithfulness`, how far the map is to be believed.

    In targets: one-hot(class) − one-hot(against), all of it negated where it is counterfactual.
    """

    class_name: str | None = None
    against: str | None = None
    method: str = "gradcam"
    counterfactual: bool = False
    all_classes: bool = False
    faithfulness: bool = False
    style: Style = field(default_factory=Style)

    def check(self, classes: Sequence[str]) -> None:
        """See that a model of `classes` can answer it.

        Raises:
            QuestionError: it can't; the subclass `UnknownNameError`: a name that there isn't.
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

    def targets(self, classes: Sequence[str]) -> Float32Array:
        """What to differentiate, `[T, classes]`: the class, what it is set against, and every class if asked.

        A row of zeros is the predicted class. The gradient is linear in its target, so a contrast is the difference of
        two rows' gradients, and the predicted class can be contrasted before anyone knows which it is.
        """
        one_hot = np.eye(len(classes), dtype=np.float32)
        rows = [np.zeros(len(classes), np.float32) if self.class_name is None else one_hot[self._index(classes)]]
        if self.against is not None:
            rows.append(one_hot[list(classes).index(self.against)])
        return np.concatenate([np.stack(rows), one_hot]) if self.all_classes else np.stack(rows)

    def gradient(self, gradients: Float32Array) -> Float32Array:
        """The gradient `[h, w, K]` that answers the question, from those of its targets `[T, h, w, K]`."""
        found = gradients[0] if self.against is None else gradients[0] - gradients[1]
        return -found if self.counterfactual else found

    def class_gradients(self, gradients: Float32Array) -> Float32Array:
        """The gradients of every class `[classes, h, w, K]`, where all were asked for."""
        found = gradients[1 if self.against is None else 2 :]
        return -found if self.counterfactual else found

    def _index(self, classes: Sequence[str]) -> int:
        assert self.class_name is not None
        return list(classes).index(self.class_name)
