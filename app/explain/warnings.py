"""Reasons to doubt one answer, read off what it consists of already: no model call is made for them.

Their thresholds are the model's own, in its manifest, measured on the films that it was trained on. A threshold on heat
belongs to one CAM method, and to maps for the predicted class: a map that answers another question is held against the
same threshold, and the detail says what that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.arrays import Float32Array
from app.artifact.manifest import Expectation, Manifest, WarningThresholds
from app.explain.cams import Heatmap
from app.imaging.picture import AnswerWarning, HeaderFacts


def border_share(values: Float32Array) -> float:
    """The share of the heat `[h, w]` that lies in the outermost ring of cells, 0..1; the heat must not be empty."""
    total = float(values.sum(dtype=np.float64))
    return (total - float(values[1:-1, 1:-1].sum(dtype=np.float64))) / total


def diffuseness(values: Float32Array) -> float:
    """The entropy of the heat `[h, w]`, taken as a distribution over n cells, over its maximum log n.

    0 where all of it is in one cell, 1 where every cell has as much; the heat must not be empty.
    """
    share = values[values > 0].astype(np.float64) / values.sum(dtype=np.float64)
    return float(-(share * np.log(share)).sum() / np.log(values.size)) if values.size > 1 else 0.0


def margin(probabilities: Sequence[float] | Float32Array) -> float | None:
    """The difference between the two best probabilities, or None where there is one class."""
    best = np.sort(np.asarray(probabilities, np.float64))[-2:]
    return float(best[1] - best[0]) if len(best) == 2 else None


def header_warnings(facts: HeaderFacts, expectation: Expectation) -> tuple[AnswerWarning, ...]:
    """What in a DICOM header contradicts the kind of image that the model was made for; a missing element does not.

    The codes are `unexpected_modality`, `unexpected_body_part` and `unexpected_view`.
    """
    said = (
        ("modality", facts.modality, expectation.modality),
        ("body part", facts.body_part, expectation.body_part),
        ("view", facts.view, expectation.view),
    )
    return tuple(
        AnswerWarning(
            f"unexpected_{name.replace(' ', '_')}",
            f"by its header the image has another {name} than the model was made for: {', '.join(expected)}",
        )
        for name, found, expected in said
        if found is not None and expected and found not in expected
    )


def prediction_warnings(
    manifest: Manifest, probabilities: Sequence[float], novelty: float
) -> tuple[AnswerWarning, ...]:
    """What there is to say against a prediction: `novel_image`, `low_margin`.

    Args:
        manifest: the model's; a threshold that it lacks gives no warning.
        probabilities: `[classes]`.
        novelty: the model's novelty score of the image.
    """
    found = (_novel_image(manifest, novelty), _low_margin(manifest.cautions, probabilities))
    return tuple(warning for warning in found if warning is not None)


def heatmap_warnings(manifest: Manifest, method: str, heatmap: Heatmap) -> tuple[AnswerWarning, ...]:
    """What there is to say against a heatmap that `method` has made: `empty_heatmap`, `border_heat`, `diffuse_heat`."""
    spec = manifest.cautions
    if heatmap.empty:
        return (AnswerWarning("empty_heatmap", "no part of the image speaks for what was asked; there is no heat"),)
    if spec is None or method not in spec.heat:
        return ()
    return tuple(warning for warning in _heat(spec, method, heatmap.values) if warning is not None)


def _novel_image(manifest: Manifest, novelty: float) -> AnswerWarning | None:
    if manifest.novelty is None or novelty <= manifest.novelty.threshold:
        return None
    return AnswerWarning(
        "novel_image",
        f"the image is unlike what the model was trained on: novelty {novelty:.3g}, threshold "
        f"{manifest.novelty.threshold:.3g}",
    )


def _heat(spec: WarningThresholds, method: str, values: Float32Array) -> list[AnswerWarning | None]:
    limits, share, spread = spec.heat[method], border_share(values), diffuseness(values)
    usual = f"of the training films' {method} maps for their predicted class"
    return [
        AnswerWarning(
            "border_heat",
            f"{share:.0%} of the heat lies in the outer ring of cells; in {spec.quantile:.0%} {usual} it is at most "
            f"{limits.border_heat:.0%}",
        )
        if share > limits.border_heat
        else None,
        AnswerWarning(
            "diffuse_heat",
            f"the heat is spread out: its entropy is {spread:.3f} of the highest possible; in {spec.quantile:.0%} "
            f"{usual} it is at most {limits.diffuse_heat:.3f}",
        )
        if spread > limits.diffuse_heat
        else None,
    ]


def _low_margin(spec: WarningThresholds | None, probabilities: Sequence[float]) -> AnswerWarning | None:
    found = margin(probabilities)
    if found is None or spec is None or spec.low_margin is None or found >= spec.low_margin:
        return None
    return AnswerWarning(
        "low_margin",
        f"the two best classes are {found:.3f} apart; for {spec.quantile:.0%} of the training films they are at least "
        f"{spec.low_margin:.3f} apart",
    )
