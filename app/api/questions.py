"""What the parameters of a request ask of a model: the question about its images, and the overlay."""

from __future__ import annotations

from app.api.schemas import ExplainParameters
from app.explain.question import Question
from app.imaging.overlay import Style


def question_of(parameters: ExplainParameters) -> Question:
    """Return the question that `parameters` ask.

    Raises:
        QuestionError: if they contradict each other; `UnknownNameError` for an unknown method.
    """
    return Question(
        class_name=parameters.class_name,
        against=parameters.against,
        method=parameters.method,
        counterfactual=parameters.counterfactual,
        all_classes=parameters.all_classes,
        faithfulness=parameters.faithfulness,
        outline=parameters.outline,
    )


def style_of(parameters: ExplainParameters, format_name: str | None = None) -> Style:
    """Return the style of the overlay, as a file of `format_name`, by default that of `parameters`.

    Raises:
        UnknownNameError: if the format or the colormap is unknown.
    """
    return Style(format=format_name or parameters.format, alpha=parameters.alpha, colormap=parameters.colormap)
