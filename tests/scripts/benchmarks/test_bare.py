"""The calls of the bare model, and the machine's rate of multiplication, which bounds them."""

import time

import pytest
import tensorflow as tf

from scripts.benchmarks.bare import BareModel, Baseline, multiplication_rate, times_ms
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
    """The figures are counted by hand, for one image."""
    assert BareModel(entry_of(build)).operations() == 2 * multiply_adds


def test_timing_leaves_out_two_calls_to_warm_up():
    """Each of the others is timed by itself, in milliseconds."""
    called, started = [], []

    def call(number):
        called.append(number)
        started.append(time.perf_counter())

    times = times_ms(call, 3, "calls")
    ended = time.perf_counter()
    assert called == [0, 1, 0, 1, 2]
    assert len(times) == 3
    assert min(times) > 0
    assert sum(times) < 1000 * (ended - started[2])


def test_the_rate_of_multiplication_is_operations_by_time():
    """It is the best of its rounds, so no lower than their mean, and of the size that this test finds for itself."""
    rounds, side = 4, 2048
    operations = 2 * side**3  # of the product of two square matrices: a multiplication and an addition
    matrix = tf.ones((side, side))

    start = time.perf_counter()
    rate = multiplication_rate(rounds)
    taken = time.perf_counter() - start
    assert rate >= rounds * operations / taken

    start = time.perf_counter()
    for _ in range(rounds):
        tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
    mean = (time.perf_counter() - start) / rounds
    assert rate < 20 * operations / mean  # far below the thousand that a wrong unit would make of it


def test_a_baseline_is_measured_before_and_after():
    """It is the mean of both, so that a machine's drift is not taken for a difference."""
    baseline = Baseline(iter([1.0, 3.0, 5.0]).__next__)
    assert baseline.remeasure() == 2
    assert baseline.remeasure() == 4
