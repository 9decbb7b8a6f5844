"""Evidence to heatmap, against values computed by hand."""

import numpy as np
import pytest

from app.cams import METHODS, cam_method, gradcam, normalise
from app.errors import UnknownNameError

# Two channels on a 2 x 2 grid.
FEATURES = np.array([[[1, 0], [2, 1]], [[0, 3], [1, 1]]], np.float32)
GRADIENTS = np.array([[[1, -1], [1, 0]], [[2, 0], [0, -1]]], np.float32)


def test_gradcam_weighs_each_channel_by_its_mean_gradient():
    """Mean gradients are (1, -½), so the map is A_0 - ½·A_1."""
    assert gradcam(FEATURES, GRADIENTS).tolist() == [[1.0, 1.5], [-1.5, 0.5]]


def test_normalising_drops_the_negative_and_divides_by_the_maximum():
    """Not min-max: 0.5 stays a third of 1.5."""
    heatmap = normalise(np.array([[1.0, 1.5], [-1.5, 0.5]], np.float32))
    np.testing.assert_allclose(heatmap.values, [[2 / 3, 1], [0, 1 / 3]], rtol=1e-6)
    assert heatmap.raw_max == 1.5
    assert not heatmap.empty


@pytest.mark.parametrize("raw", [np.zeros((2, 3)), np.full((2, 3), -1.0)])
def test_a_map_with_no_positive_value_is_empty(raw):
    """All zeros, not NaN, and it says so."""
    heatmap = normalise(raw.astype(np.float32))
    assert heatmap.empty
    assert heatmap.raw_max == 0.0
    assert heatmap.values.tolist() == np.zeros((2, 3)).tolist()


def test_the_smallest_positive_value_is_a_map():
    """Subnormal numbers neither overflow nor vanish."""
    heatmap = normalise(np.array([[0.0, 1e-45]], np.float32))
    assert heatmap.values.tolist() == [[0.0, 1.0]]


def test_evidence_that_is_not_finite_is_an_error():
    """A NaN must not be drawn as if it meant something."""
    with pytest.raises(FloatingPointError, match="not finite"):
        normalise(np.array([[np.nan, 1.0]], np.float32))


def test_an_unknown_method_is_refused_with_those_that_there_are():
    """The registry is the one place that knows."""
    with pytest.raises(UnknownNameError, match="gradcam") as caught:
        cam_method("occlusion")
    assert caught.value.valid == tuple(METHODS)
