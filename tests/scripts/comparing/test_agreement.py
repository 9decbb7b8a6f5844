"""Measures of agreement, by hand and against NumPy's correlation of ranks."""

import numpy as np
import pytest
from scipy.stats import rankdata

from scripts.comparing.agreement import agreement, hottest


def heat(*values):
    return np.array(values, np.float32)


def test_a_map_agrees_with_itself_and_its_multiples():
    """1 in every measure: the scale of a map is not what it shows."""
    one = heat(0, 0.1, 0.2, 0.7, 1)
    for factor in (1, 0.25):
        same = agreement(one, one * np.float32(factor))
        assert same.rank_correlation == pytest.approx(1)
        assert same.hottest_overlap == 1
        assert same.shared_heat == pytest.approx(1)


def test_measures_by_hand():
    """Of ten cells the two hottest are 8, 9 and 9, 0: one of three. Shares 1/4, 3/4 and 1/2, 1/2 of heat: 1/2."""
    one, other = np.zeros(10, np.float32), np.zeros(10, np.float32)
    one[8], one[9] = 0.25, 0.75
    other[9], other[0] = 0.5, 0.5
    found = agreement(one, other)
    assert found.hottest_overlap == pytest.approx(1 / 3)
    assert found.shared_heat == pytest.approx(0.5)


def test_rank_correlation_is_that_of_the_ranks():
    """With ties: Pearson's correlation of the mean ranks, as Spearman defined it."""
    rng = np.random.default_rng(3)
    one, other = (rng.integers(0, 6, 60).astype(np.float32) for _ in range(2))
    expected = np.corrcoef(rankdata(one), rankdata(other))[0, 1]
    assert agreement(one, other).rank_correlation == pytest.approx(expected)
    assert agreement(heat(1, 2, 3), heat(3, 2, 1)).rank_correlation == pytest.approx(-1)


def test_the_same_heat_everywhere_has_no_ranks():
    """Which is not no correlation."""
    assert agreement(heat(1, 1, 1), heat(1, 2, 3)).rank_correlation is None


def test_cells_without_heat_are_never_hot_and_ties_are_all_in():
    """Of ten cells two are the hottest: only one has heat, or three tie for the second place."""
    assert hottest(heat(0, 0, 0, 0, 0, 0, 0, 0, 0, 1)).sum() == 1
    assert hottest(heat(0, 0, 0, 0, 0, 0, 5, 5, 5, 9)).sum() == 4
    assert hottest(heat(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)).tolist() == [False] * 8 + [True] * 2
