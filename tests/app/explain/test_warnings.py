"""Reasons to doubt an answer, each against values computed by hand."""

import math

import numpy as np
import pytest

from app.artifact.manifest import Expectation, HeatThresholds, NoveltySpec, RegionSpec, WarningThresholds
from app.explain.cams import Heatmap
from app.explain.regions import RegionShare
from app.explain.warnings import (
    border_share,
    diffuseness,
    header_warnings,
    heatmap_warnings,
    margin,
    prediction_warnings,
    region_warnings,
)
from app.imaging.picture import HeaderFacts
from tests.doubles import manifest

SPEC = WarningThresholds(
    quantile=0.95, films=40, low_margin=0.1, heat={"gradcam": HeatThresholds(border_heat=0.5, diffuse_heat=0.6)}
)
CALM = manifest(novelty=NoveltySpec(method="m", threshold=1.0)).model_copy(update={"cautions": SPEC})


def heat(*cells, side=5):
    values = np.zeros((side, side), np.float32)
    for row, column, value in cells:
        values[row, column] = value
    return Heatmap(values, float(values.max()))


CENTRE = heat((2, 2, 1.0))


def codes(*, heatmap=CENTRE, probabilities=(0.7, 0.2, 0.1), novelty=0.5, method="gradcam", model=CALM):
    said = (*prediction_warnings(model, probabilities, novelty), *heatmap_warnings(model, method, heatmap))
    return [warning.code for warning in said]


def test_the_border_is_the_outermost_ring():
    """A corner and the centre hold a quarter and three quarters."""
    assert border_share(heat((0, 4, 1.0), (1, 1, 3.0)).values) == 0.25
    assert border_share(np.ones((2, 3), np.float32)) == 1.0
    assert border_share(np.ones((1, 1), np.float32)) == 1.0


def test_the_border_is_that_of_the_input():
    """A map over its middle has none; one that reaches its left edge has a column; one over its padding has a frame."""
    even = np.ones((4, 4), np.float32)
    assert border_share(even, (0.25, 0.25, 0.75, 0.75)) == 0.0
    assert border_share(even, (0.0, 0.25, 0.5, 0.75)) == 0.25
    assert border_share(even, (0.02, 0.25, 0.52, 0.75)) == 0.25  # less than a cell inside
    # Of 8 cells, 2 on each side are padding and the third is at the edge: 4 of 64 are inside.
    assert border_share(np.ones((8, 8), np.float32), (-0.5, -0.5, 1.5, 1.5)) == 60 / 64
    assert border_share(even, (0.0, 0.0, 1.0, 1.0)) == border_share(even) == 0.75


def test_heat_at_the_edge_of_an_inner_crop_is_no_border_heat():
    """The features of a network that looks at the middle end inside the image, not at its border."""
    layer = CALM.feature_layer.model_copy(update={"region": (0.3, 0.3, 0.7, 0.7)})
    at_the_edge = heat((0, 0, 1.0), (2, 2, 0.9))
    assert codes(heatmap=at_the_edge) == ["border_heat"]
    assert codes(heatmap=at_the_edge, model=CALM.model_copy(update={"feature_layer": layer})) == []


ORGAN = CALM.model_copy(update={"region": RegionSpec(name="lungs", min_share_of_heat={"gradcam": 0.4})})


@pytest.mark.parametrize(
    ("share", "method", "expected"),
    [
        (0.39, "gradcam", ["heat_outside_region"]),
        (0.4, "gradcam", []),
        (0.1, "layercam", []),  # its heat was not measured
        (None, "gradcam", []),  # the organ was not found, which is a warning of its own
    ],
)
def test_heat_outside_the_organ_is_a_warning(share, method, expected):
    """Below the method's own threshold; the detail names the organ and both figures."""
    found = heatmap_warnings(ORGAN, method, CENTRE, region=RegionShare("lungs", share is not None, 0.3, share))
    assert [warning.code for warning in found] == expected
    assert all("39% of the heat is in the lungs" in warning.detail and "40%" in warning.detail for warning in found)
    assert (
        heatmap_warnings(ORGAN, method, heat(), region=RegionShare("lungs", True, 0.3, None))[0].code == "empty_heatmap"
    )


WHOLE_IMAGE, PART = np.array([0, 0, 1, 1], np.float32), np.array([0.2, 0.2, 0.8, 0.8], np.float32)


@pytest.mark.parametrize(
    ("model", "box", "regions", "detail"),
    [
        (ORGAN, None, np.zeros((2, 2)), "the model did not find the lungs in the image"),
        (ORGAN, WHOLE_IMAGE, np.zeros((2, 2)), "did not find the lungs in the image; it looked at the whole image"),
        (CALM, WHOLE_IMAGE, None, "found no part of the image to crop to; it looked at the whole image"),
        (ORGAN, WHOLE_IMAGE, np.ones((2, 2)), None),  # an organ that fills the image
        (ORGAN, PART, np.ones((2, 2)), None),
        (CALM, PART, None, None),
        (CALM, None, None, None),
    ],
)
def test_an_organ_that_was_not_found_is_a_warning(model, box, regions, detail):
    """By its regions, or of a model that has none by its box, which then is the whole image."""
    found = region_warnings(model, box, None if regions is None else np.float32(regions))
    assert [warning.code for warning in found] == ([] if detail is None else ["region_not_found"])
    assert all(warning.detail.endswith(detail) for warning in found)


def test_diffuseness_is_entropy_over_its_maximum():
    """One cell, all cells, and two of 25."""
    assert diffuseness(CENTRE.values) == 0.0
    assert diffuseness(np.ones((5, 5), np.float32)) == pytest.approx(1.0)
    assert diffuseness(heat((0, 0, 0.5), (3, 1, 0.5)).values) == pytest.approx(math.log(2) / math.log(25))
    assert diffuseness(np.ones((1, 1), np.float32)) == 0.0


def test_the_margin_is_that_of_the_two_best():
    """In any order; one class has none."""
    assert margin([0.1, 0.6, 0.3]) == pytest.approx(0.3)
    assert margin([1.0]) is None


def test_an_answer_like_those_of_the_training_films_has_no_warnings():
    """Nothing is cried without a reason."""
    assert codes() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"novelty": 1.01}, "novel_image"),
        ({"heatmap": heat()}, "empty_heatmap"),
        ({"heatmap": heat((0, 0, 1.0), (2, 2, 0.9))}, "border_heat"),
        ({"heatmap": heat(*((r, c, 1.0) for r in (1, 2, 3) for c in (1, 2, 3)))}, "diffuse_heat"),
        ({"probabilities": (0.46, 0.37, 0.17)}, "low_margin"),
    ],
)
def test_each_warning_comes_alone_for_its_own_reason(changes, code):
    """The rest of the answer is calm."""
    assert codes(**changes) == [code]


def test_a_value_at_its_threshold_is_none_to_doubt():
    """Half of the heat in the ring, and a novelty of 1."""
    assert codes(heatmap=heat((0, 0, 1.0), (2, 2, 1.0)), novelty=1.0) == []


def test_all_warnings_that_apply_are_given_with_their_figures():
    """In a fixed order, and the detail names the value and the threshold."""
    found = (
        *prediction_warnings(CALM, (0.4, 0.35, 0.25), 2.0),
        *heatmap_warnings(CALM, "gradcam", Heatmap(np.ones((5, 5), np.float32), 1.0)),
    )
    assert [warning.code for warning in found] == ["novel_image", "low_margin", "border_heat", "diffuse_heat"]
    assert "2, above the threshold of 1" in found[0].detail
    assert "0.050 apart" in found[1].detail
    assert "64% of the heat" in found[2].detail
    assert "50%" in found[2].detail


def test_a_model_without_thresholds_gives_only_what_needs_none():
    """Not even novelty, where the model has no such score."""
    bare = manifest()
    wild = {"probabilities": (0.4, 0.35, 0.25), "novelty": 99.0}
    assert codes(model=bare, heatmap=Heatmap(np.ones((5, 5), np.float32), 1.0), **wild) == []
    assert codes(model=bare, heatmap=heat(), **wild) == ["empty_heatmap"]


def test_a_method_that_was_not_measured_has_no_threshold_on_its_heat():
    """Another method's would say nothing about it."""
    assert codes(method="layercam", heatmap=Heatmap(np.ones((5, 5), np.float32), 1.0)) == []


def test_a_model_of_one_class_has_no_margin():
    """There is nothing to be close to."""
    assert codes(probabilities=(1.0,)) == []


CHEST = Expectation(modality=("CR", "DX"), body_part=("CHEST",), view=("PA", "AP"))


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        (HeaderFacts("CR", "CHEST", "PA"), []),
        (HeaderFacts(), []),
        (HeaderFacts("CT", None, None), ["unexpected_modality"]),
        (HeaderFacts("DX", "EXTREMITY", "AP"), ["unexpected_body_part"]),
        (HeaderFacts("DX", "CHEST", "LL"), ["unexpected_view"]),
        (HeaderFacts("MG", "BREAST", "MLO"), ["unexpected_modality", "unexpected_body_part", "unexpected_view"]),
    ],
)
def test_a_header_that_contradicts_what_the_model_expects_is_a_warning(facts, codes):
    """What the header leaves out contradicts nothing, nor does any header contradict a model that expects nothing."""
    warnings = header_warnings(facts, CHEST)
    assert [warning.code for warning in warnings] == codes
    assert not any(value in warning.detail for warning in warnings for value in ("EXTREMITY", "LL", "BREAST", "CT"))
    assert header_warnings(facts, Expectation()) == ()
