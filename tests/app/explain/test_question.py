"""A question as a target: what is differentiated, and what a map is judged by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import QuestionError, UnknownNameError
from app.explain.question import MAX_CLASS_MAPS, Question, target_probability

CLASSES = ("a", "b", "c")
QUESTIONS = st.builds(
    Question,
    class_name=st.sampled_from([None, *CLASSES]),
    against=st.sampled_from([None, *CLASSES]),
    counterfactual=st.booleans(),
    all_classes=st.booleans(),
).filter(lambda question: question.class_name is None or question.class_name != question.against)


@pytest.mark.parametrize(
    ("question", "target"),
    [
        ({}, (0, 0, 1)),
        ({"class_name": "a"}, (1, 0, 0)),
        ({"against": "a"}, (-1, 0, 1)),
        ({"class_name": "b", "against": "a"}, (-1, 1, 0)),
        ({"counterfactual": True}, (0, 0, -1)),
        ({"against": "a", "counterfactual": True}, (1, 0, -1)),
        ({"method": "eigencam"}, (0, 0, 0)),
    ],
)
def test_a_question_is_a_target_over_the_logits(question, target):
    """The predicted class is `c`. No zero has a sign: receipts are compared as text."""
    found = Question(**question).target(CLASSES, "c").tolist()
    assert found == list(target)
    assert "-0.0" not in str(found)


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ({}, [[0, 0, 0]]),
        ({"class_name": "b"}, [[0, 1, 0]]),
        ({"class_name": "b", "against": "c"}, [[0, 1, -1]]),
        ({"class_name": "c", "counterfactual": True}, [[0, 0, -1]]),
        ({"against": "c"}, [[0, 0, 0], [0, 0, -1]]),
        ({"counterfactual": True}, [[0, 0, 0]]),
        ({"all_classes": True}, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ({"class_name": "a", "all_classes": True}, [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_the_rows_that_are_differentiated(question, rows):
    """A named class is asked about by its target. Zeros stand for the predicted class."""
    asked = Question(**question)
    asked.check(CLASSES)
    assert asked.rows(CLASSES).tolist() == rows


@given(question=QUESTIONS, predicted=st.sampled_from(CLASSES))
def test_what_is_differentiated_is_the_target(question, predicted):
    """For logits of known gradients, whichever class is predicted: the answer is the gradient of the target's score."""
    if question.class_name is None and question.against == predicted:
        return
    jacobian = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float32)  # of three logits
    rows = question.rows(CLASSES)
    resolved = np.where(rows.any(axis=-1, keepdims=True), rows, np.eye(3)[CLASSES.index(predicted)])
    gradients = np.tensordot(resolved.astype(np.float32), jacobian, 1)
    expected = np.tensordot(question.target(CLASSES, predicted), jacobian, 1)
    np.testing.assert_allclose(question.gradient(gradients), expected, atol=1e-6)
    if question.all_classes:
        every = [replace(question, class_name=name, against=None).target(CLASSES, predicted) for name in CLASSES]
        np.testing.assert_allclose(
            question.class_gradients(gradients), np.tensordot(np.stack(every), jacobian, 1), atol=1e-6
        )


@pytest.mark.parametrize(
    ("question", "probability"),
    [
        ({}, 0.5),
        ({"class_name": "a"}, 0.2),
        ({"class_name": "a", "counterfactual": True}, 0.8),
        ({"class_name": "a", "against": "b"}, 0.2 / 0.5),
        ({"class_name": "a", "against": "b", "counterfactual": True}, 0.3 / 0.5),
    ],
)
def test_a_map_is_judged_by_what_its_target_speaks_for(question, probability):
    """The class; of two, its share; against it, the rest. Worked out by hand."""
    target = Question(**question).target(CLASSES, "c")
    assert target_probability(target, np.array([0.2, 0.3, 0.5], np.float32)) == pytest.approx(probability)


def test_of_two_classes_that_are_both_impossible_neither_is_likelier():
    """No division by zero."""
    assert target_probability(np.array([1, -1, 0], np.float32), np.array([0, 0, 1], np.float32)) == 0.5


@pytest.mark.parametrize(
    ("question", "error", "reason"),
    [
        ({"class_name": "x"}, UnknownNameError, "valid: a, b, c"),
        ({"against": "x"}, UnknownNameError, "valid: a, b, c"),
        ({"method": "x"}, UnknownNameError, "gradcam"),
        ({"class_name": "a", "against": "a"}, QuestionError, "two classes"),
        ({"method": "eigencam", "class_name": "a"}, QuestionError, "not class-specific"),
        ({"method": "eigencam", "counterfactual": True}, QuestionError, "'counterfactual'"),
        ({"method": "eigencam", "all_classes": True}, QuestionError, "use one of: gradcam"),
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


def test_an_outline_needs_a_model_that_locates_an_organ():
    """Whatever else is asked."""
    Question(outline=True).check(CLASSES, locates_organ=True)
    Question().check(CLASSES)
    with pytest.raises(QuestionError, match="'outline' draws the border of an organ"):
        Question(outline=True, class_name="a").check(CLASSES)
