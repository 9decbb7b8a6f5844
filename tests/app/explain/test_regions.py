"""How much heat lies in an organ, each against values computed by hand."""

import numpy as np
import pytest

from app.artifact.manifest import FeatureLayer, RegionSpec
from app.explain.cams import gradcam, hirescam
from app.explain.regions import covered_box, covered_share, is_found, region_share, share_of_heat, ungated
from app.imaging.geometry import WHOLE

LAYER = FeatureLayer(name="blocks", height=2, width=4, channels=1)
LEFT = np.array([[1, 1, 0, 0], [1, 0.5, 0, 0]], np.float32)  # 3.5 of 8 cells


def test_the_share_of_heat_is_weighted_by_the_organ():
    """Half of a cell's heat where half of the cell belongs to it; an empty map has none."""
    heat = np.array([[0, 1, 0, 0], [0, 1, 0, 0]], np.float32)
    assert share_of_heat(heat, LEFT) == 0.75
    assert share_of_heat(np.ones((2, 4), np.float32), LEFT) == 3.5 / 8
    assert share_of_heat(heat * 0, LEFT) is None


def test_the_share_of_the_image_counts_the_part_that_the_cells_cover():
    """All of it, a quarter, and a part of which half lies outside the image."""
    assert covered_share(LEFT, WHOLE) == pytest.approx(3.5 / 8)
    assert covered_share(LEFT, (0.5, 0.5, 1, 1)) == pytest.approx(3.5 / 32)
    beyond = (-1, 0, 1, 1)  # two columns are outside, and the organ with them
    assert covered_share(LEFT, beyond) == pytest.approx(0)
    assert covered_share(np.ones((2, 4), np.float32), beyond) == pytest.approx(1)


def test_an_organ_is_found_above_the_threshold():
    """Of the input; a model that finds nothing answers zeros, which no threshold counts as found."""
    spec = RegionSpec(name="organ", min_share_of_image=0.2)
    assert is_found(spec, LEFT, WHOLE)
    assert not is_found(spec, LEFT, (0.5, 0.5, 1, 1))
    assert not is_found(RegionSpec(name="organ"), LEFT * 0, WHOLE)


def test_heat_in_an_organ_that_was_not_found_is_not_stated():
    """It would be a share of nothing."""
    heat = np.ones((2, 4), np.float32)
    found = region_share(RegionSpec(name="organ"), heat, LEFT, WHOLE, WHOLE)
    assert (found.name, found.found, found.share_of_heat) == ("organ", True, 3.5 / 8)
    lost = region_share(RegionSpec(name="organ", min_share_of_image=0.5), heat, LEFT, WHOLE, WHOLE)
    assert (lost.found, lost.share_of_heat) == (False, None)
    assert lost.share_of_image == pytest.approx(3.5 / 8)


def test_a_gate_in_the_head_does_not_shape_the_heat_that_is_measured():
    """Its factor in each cell's gradient becomes one factor for all, so that HiResCAM is Grad-CAM."""
    rng = np.random.default_rng(0)
    features = rng.random((3, 4, 5)).astype(np.float32)
    gate = np.zeros((3, 4, 1), np.float32)
    gate[:, :2] = 1
    gated = gate * rng.random(5).astype(np.float32)
    assert (hirescam(features, gated)[:, 2:] == 0).all()
    free = ungated(RegionSpec(name="organ", gated=True), gated[None])[0]
    np.testing.assert_allclose(hirescam(features, free), gradcam(features, gated), rtol=1e-5)
    assert ungated(RegionSpec(name="organ"), gated) is gated


def test_the_models_box_comes_before_the_manifests():
    """Without one, the manifest's part of every input, or all of it."""
    half = LAYER.model_copy(update={"region": (0.0, 0.0, 0.5, 1.0)})
    assert covered_box(LAYER, None) == WHOLE
    assert covered_box(half, None) == (0.0, 0.0, 0.5, 1.0)
    assert covered_box(LAYER, np.array([0.25, 0.5, 0.75, 1.0], np.float32)) == (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.4), (np.nan, 0, 1, 1), (0, 0, np.inf, 1), (1, 0, 2, 1)]
)
def test_a_box_without_an_extent_is_an_error_of_the_model(box):
    """Rather than a map in a wrong place."""
    with pytest.raises(FloatingPointError, match="no extent"):
        covered_box(LAYER, np.array(box, np.float32))
