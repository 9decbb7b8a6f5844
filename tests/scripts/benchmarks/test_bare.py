"""The bare model call, and the floor under it."""

import pytest

from scripts.benchmarks.bare import BareModel, Baseline, multiplication_rate
from tests import models


@pytest.mark.parametrize(
    ("build", "multiply_adds"),
    [
        # Two convolutions, the second at half the side, then a dense layer.
        (models.batch_norm_dropout, 16**2 * 6 * 27 + 8**2 * 8 * 54 + 8 * 3),
        # A depthwise 3 x 3 and a pointwise convolution at half the side less the rim, then a dense layer.
        (models.separate_activation, 7**2 * (3 * 9 + 3 * 6) + 7**2 * 6 * 3),
    ],
)
def test_operations_are_two_a_multiply_add(entry_of, build, multiply_adds):
    """Counted by hand, for one image."""
    assert BareModel(entry_of(build)).operations() == 2 * multiply_adds


def test_a_machine_multiplies_matrices():
    """Between a billion and a hundred thousand billion operations a second, whatever it is."""
    assert 1e9 < multiplication_rate(2) < 1e14


def test_a_baseline_is_measured_before_and_after():
    """The mean of both, so that a machine's drift is not taken for a difference."""
    baseline = Baseline(iter([1.0, 3.0, 5.0]).__next__)
    assert baseline.remeasure() == 2
    assert baseline.remeasure() == 4
