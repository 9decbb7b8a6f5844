"""A question as targets, and how their gradients answer it."""

import numpy as np
import pytest

from app.errors import QuestionError, UnknownNameError
from app.explain.question import MAX_CLASS_MAPS, Question

CLASSES = ("a", "b", "c")
GRADIENTS = np.arange(1.0, 6.0, dtype=np.float32)[:, None, None, None]  # of five targets, one cell each


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ({}, [[0, 0, 0]]),
        ({"class_name": "b"}, [[0, 1, 0]]),
        ({"class_name": "b", "against": "c"}, [[0, 1, 0], [0, 0, 1]]),
        ({"against": "c"}, [[0, 0, 0], [0, 0, 1]]),
        ({"class_name": "c", "counterfactual": True}, [[0, 0, 1]]),
        ({"all_classes": True}, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_the_rows_that_are_differentiated(question, rows):
    """Zeros stand for the predicted class."""
    asked = Question(**question)
    asked.check(CLASSES)
    assert asked.targets(CLASSES).tolist() == rows


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({}, 1),
        ({"against": "b"}, 1 - 2),
        ({"counterfactual": True}, -1),
        ({"against": "b", "counterfactual": True}, 2 - 1),
    ],
)
def test_the_gradient_that_answers(question, answer):
    """A contrast subtracts, a counterfactual negates."""
    assert Question(**question).gradient(GRADIENTS).item() == answer


@pytest.mark.parametrize(
    ("question", "answers"),
    [({}, [2, 3, 4, 5]), ({"against": "b"}, [3, 4, 5]), ({"counterfactual": True}, [-2, -3, -4, -5])],
)
def test_the_gradients_of_every_class(question, answers):
    """Those after the question's own."""
    assert Question(**question, all_classes=True).class_gradients(GRADIENTS).ravel().tolist() == answers


@pytest.mark.parametrize(
    ("question", "error", "reason"),
    [
        ({"class_name": "x"}, UnknownNameError, "valid: a, b, c"),
        ({"against": "x"}, UnknownNameError, "valid: a, b, c"),
        ({"method": "x"}, UnknownNameError, "gradcam"),
        ({"class_name": "a", "against": "a"}, QuestionError, "two classes"),
        ({"method": "eigencam", "class_name": "a"}, QuestionError, "has no class"),
        ({"method": "eigencam", "counterfactual": True}, QuestionError, "'counterfactual'"),
        ({"method": "eigencam", "all_classes": True}, QuestionError, "take one of: gradcam"),
    ],
)
def test_what_has_no_answer(question, error, reason):
    """Is refused before an image is looked at."""
    with pytest.raises(error, match=reason):
        Question(**question).check(CLASSES)


def test_maps_of_every_class_are_bounded():
    """A thousand gradients of one image would not fit into memory beside others."""
    many = tuple(f"class {number}" for number in range(MAX_CLASS_MAPS + 1))
    Question(all_classes=True).check(many[:-1])
    with pytest.raises(QuestionError, match="one 'class' at a time"):
        Question(all_classes=True).check(many)
