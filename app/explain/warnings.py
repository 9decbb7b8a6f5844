"""Warnings: reasons to doubt an answer, computed without further model calls.

The manifest of a model contains their thresholds, which were measured on its training images. A threshold on heat
applies to one CAM method and was measured on heatmaps for the predicted class. Heatmaps for other questions are
compared with the same threshold, and the detail says how it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.arrays import Float32Array
from app.artifact.manifest import Expectation, Manifest, RegionSpec, WarningThresholds
from app.explain.cams import Heatmap
from app.explain.regions import RegionShare, covered_box, is_found
from app.imaging.geometry import WHOLE, Box
from app.imaging.picture import AnswerWarning, HeaderFacts


def border_share(values: Float32Array, box: Box = WHOLE) -> float:
    """Return the fraction of the heat `[h, w]` at the border of the input, 0..1. The heat must not be all zeros.

    These are the cells whose centres lie less than one cell inside the input, or outside: the outermost ring if the map
    covers the input exactly. The edge of a map that covers the inside of the input is not at the border.

    Args:
        values: the heat.
        box: the part of the input that the map covers.
    """
    left, top, right, bottom = box
    rows, columns = _inside(values.shape[0], top, bottom), _inside(values.shape[1], left, right)
    total = float(values.sum(dtype=np.float64))
    return (total - float(values[np.ix_(rows, columns)].sum(dtype=np.float64))) / total


def _inside(count: int, start: float, stop: float) -> npt.NDArray[np.bool_]:
    """Return which of `count` cells from `start` to `stop` have their centres at least one cell inside 0..1."""
    cell = (stop - start) / count
    centres = start + cell * (np.arange(count) + 0.5)
    return np.minimum(centres, 1 - centres) >= cell


def diffuseness(values: Float32Array) -> float:
    """Return the entropy of the heat `[h, w]` as a distribution over its n cells, divided by its maximum log n.

    It is 0 if all heat is in one cell, and 1 if all cells have the same heat. The heat must not be all zeros.
    """
    share = values[values > 0].astype(np.float64) / values.sum(dtype=np.float64)
    return float(-(share * np.log(share)).sum() / np.log(values.size)) if values.size > 1 else 0.0


def margin(probabilities: Sequence[float] | Float32Array) -> float | None:
    """Return the difference between the two highest probabilities, or None if there is only one class."""
    best = np.sort(np.asarray(probabilities, np.float64))[-2:]
    return float(best[1] - best[0]) if len(best) == 2 else None


def header_warnings(facts: HeaderFacts, expectation: Expectation) -> tuple[AnswerWarning, ...]:
    """Return warnings about elements of a DICOM header that contradict what the model expects.

    The codes are `unexpected_modality`, `unexpected_body_part` and `unexpected_view`. A missing element contradicts
    nothing.
    """
    elements = (
        ("modality", facts.modality, expectation.modality),
        ("body part", facts.body_part, expectation.body_part),
        ("view", facts.view, expectation.view),
    )
    return tuple(
        AnswerWarning(
            f"unexpected_{name.replace(' ', '_')}",
            f"by its header, the image has another {name} than the model expects: {', '.join(expected)}",
        )
        for name, found, expected in elements
        if found is not None and expected and found not in expected
    )


def prediction_warnings(
    manifest: Manifest, probabilities: Sequence[float], novelty: float
) -> tuple[AnswerWarning, ...]:
    """Return warnings about a prediction, with the codes `novel_image` and `low_margin`.

    Args:
        manifest: the manifest of the model. Without a threshold there is no warning.
        probabilities: the probabilities of the classes, `[classes]`.
        novelty: the novelty score of the image.
    """
    # The classes of a multi-label model do not compete, so a small margin between two of them says nothing.
    rivals = probabilities if manifest.task == "single_label" else ()
    found = (_novel_image(manifest, novelty), _low_margin(manifest.cautions, rivals))
    return tuple(warning for warning in found if warning is not None)


def region_warnings(
    manifest: Manifest, box: Float32Array | None, regions: Float32Array | None
) -> tuple[AnswerWarning, ...]:
    """Return the warning `region_not_found` if the model did not find the organ that it looks for in an image.

    Args:
        manifest: the manifest of the model.
        box: the output `box` for the image, `[4]`, or None if the model has none. A model that has it and no regions
            answers the whole input if it found nothing.
        regions: the output `regions` for the image, `[h, w]`, or None if the model has none.

    Raises:
        FloatingPointError: if the box has no extent.
    """
    covered = covered_box(manifest.feature_layer, box)
    if manifest.region is not None and regions is not None:
        if is_found(manifest.region, regions, covered):
            return ()
        found_nothing = f"the model did not find the {manifest.region.name} in the image"
    elif box is not None and covered == WHOLE:
        found_nothing = "the model found no part of the image to crop to"
    else:
        return ()
    looked = "; it looked at the whole image" if box is not None and covered == WHOLE else ""
    return (AnswerWarning("region_not_found", found_nothing + looked),)


def heatmap_warnings(
    manifest: Manifest, method: str, heatmap: Heatmap, box: Box | None = None, region: RegionShare | None = None
) -> tuple[AnswerWarning, ...]:
    """Return warnings about a heatmap.

    The codes are `empty_heatmap`, `border_heat`, `diffuse_heat` and `heat_outside_region`.

    Args:
        manifest: the manifest of the model. Without thresholds there is at most the first warning.
        method: the CAM method of the heatmap.
        heatmap: the heatmap.
        box: the part of the input that the heatmap covers; by default that of the manifest.
        region: how much of the heat lies in the organ that the model locates; None if it locates none.
    """
    spec = manifest.cautions
    if heatmap.empty:
        return (
            AnswerWarning("empty_heatmap", "the heatmap is empty: no part of the image is evidence for the question"),
        )
    found = [_heat_outside_region(manifest.region, method, region)]
    if spec is not None and method in spec.heat:
        covered = manifest.feature_layer.box if box is None else box
        found = [*_heat(spec, method, heatmap.values, covered), *found]
    return tuple(warning for warning in found if warning is not None)


def _novel_image(manifest: Manifest, novelty: float) -> AnswerWarning | None:
    if manifest.novelty is None or novelty <= manifest.novelty.threshold:
        return None
    return AnswerWarning(
        "novel_image",
        f"the image is unlike the training images: its novelty is {novelty:.3g}, above the threshold of "
        f"{manifest.novelty.threshold:.3g}",
    )


def _heat(spec: WarningThresholds, method: str, values: Float32Array, box: Box) -> list[AnswerWarning | None]:
    limits, share, spread = spec.heat[method], border_share(values, box), diffuseness(values)
    usual = f"of the training films' {method} heatmaps for the predicted class"
    return [
        AnswerWarning(
            "border_heat",
            f"{share:.0%} of the heat is at the border of the image that the network was given; in "
            f"{spec.quantile:.0%} {usual} it is at most {limits.border_heat:.0%}",
        )
        if share > limits.border_heat
        else None,
        AnswerWarning(
            "diffuse_heat",
            f"the heat is spread out: its entropy is {spread:.3f} of the maximum; in {spec.quantile:.0%} {usual} it is "
            f"at most {limits.diffuse_heat:.3f}",
        )
        if spread > limits.diffuse_heat
        else None,
    ]


def _heat_outside_region(spec: RegionSpec | None, method: str, region: RegionShare | None) -> AnswerWarning | None:
    if spec is None or region is None or region.share_of_heat is None or method not in spec.min_share_of_heat:
        return None
    limit = spec.min_share_of_heat[method]
    if region.share_of_heat >= limit:
        return None
    return AnswerWarning(
        "heat_outside_region",
        f"only {region.share_of_heat:.0%} of the heat is in the {region.name}; with {method} it is usually at least "
        f"{limit:.0%}",
    )


def _low_margin(spec: WarningThresholds | None, probabilities: Sequence[float]) -> AnswerWarning | None:
    found = margin(probabilities)
    if found is None or spec is None or spec.low_margin is None or found >= spec.low_margin:
        return None
    return AnswerWarning(
        "low_margin",
        f"the probabilities of the two best classes are only {found:.3f} apart; for {spec.quantile:.0%} of the "
        f"training films they are at least {spec.low_margin:.3f} apart",
    )
