"""Paired figures, against scikit-learn, SciPy's bootstrap and DeLong's formula."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import roc_auc_score

from scripts.evaluation.paired import area_statistic, calibration_statistic, mcnemar, mean_statistic, paired
from scripts.evaluation.statistics import calibration_error


@pytest.fixture(scope="module")
def scores():
    """Labels, and two correlated scores of 200 films, the second better."""
    rng = np.random.default_rng(7)
    truth = rng.random(200) < 0.4
    shared = rng.normal(0, 1, 200)
    return truth, truth + shared + rng.normal(0, 0.7, 200), 1.6 * truth + shared + rng.normal(0, 0.7, 200)


def names(count):
    return [f"p{i}" for i in range(count)]


def areas(truth, first, second, patients, rounds=2000):
    return paired(area_statistic(first, truth, ~truth), area_statistic(second, truth, ~truth), patients, rounds=rounds)


def test_areas_are_those_of_scikit_learn(scores):
    """Both, and their difference."""
    truth, first, second = scores
    figures = areas(truth, first, second, names(200))
    expected = roc_auc_score(truth, first), roc_auc_score(truth, second)
    assert figures["first"]["value"] == pytest.approx(expected[0])
    assert figures["second"]["value"] == pytest.approx(expected[1])
    assert figures["difference"]["value"] == pytest.approx(expected[1] - expected[0])


def test_the_interval_of_a_difference_is_that_of_scipys_paired_bootstrap(scores):
    """With one film of each patient; to the noise of 2000 resamples."""
    truth, first, second = scores
    figure = areas(truth, first, second, names(200))["difference"]
    expected = bootstrap(
        (truth, first, second),
        lambda t, a, b: roc_auc_score(t, b) - roc_auc_score(t, a),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert figure["low"] == pytest.approx(expected.low, abs=0.006)
    assert figure["high"] == pytest.approx(expected.high, abs=0.006)


def delong(truth, first, second):
    """The difference of two correlated areas and its standard error: DeLong et al., Biometrics 44 (1988) 837-845."""
    parts = []
    for values in (first, second):
        kernel = (values[truth][:, None] > values[~truth]) + 0.5 * (values[truth][:, None] == values[~truth])
        parts.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    covariance = sum(np.cov(parts[0][side], parts[1][side]) / len(parts[0][side]) for side in (0, 1))
    difference = parts[1][0].mean() - parts[0][0].mean()
    return difference, np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def test_the_interval_of_a_difference_is_about_that_of_delong(scores):
    """Which needs no resampling; one film of each patient."""
    truth, first, second = scores
    figure = areas(truth, first, second, names(200))["difference"]
    difference, error = delong(truth, first, second)
    assert figure["value"] == pytest.approx(difference)
    for end, share in (("low", 0.025), ("high", 0.975)):
        assert figure[end] == pytest.approx(difference + norm.ppf(share) * error, abs=0.25 * error)


def test_pairing_narrows_the_difference_and_copies_of_films_do_not(scores):
    """The films' own difficulty cancels; ten copies of each patient's film are not ten films."""
    truth, first, second = scores
    once = areas(truth, first, second, names(200))
    widths = {name: figure["high"] - figure["low"] for name, figure in once.items()}
    assert widths["difference"] < 0.8 * np.hypot(widths["first"], widths["second"])
    copied = areas(*(np.repeat(values, 10) for values in scores), np.repeat(names(200), 10).tolist())
    assert copied["difference"]["low"] == pytest.approx(once["difference"]["low"])
    assert copied["difference"]["high"] == pytest.approx(once["difference"]["high"])


def test_the_same_model_differs_by_nothing(scores):
    """Exactly, in every resample."""
    truth, first, _ = scores
    for figures in (
        areas(truth, first, first, names(200), rounds=50),
        paired(mean_statistic(first), mean_statistic(first), names(200), pivotal=True, rounds=50),
    ):
        assert figures["difference"] == {"value": 0, "low": 0, "high": 0}


def test_resamples_without_positives_are_dropped():
    """One positive film of five is not drawn in a third of them."""
    truth = np.array([True, False, False, False, False])
    figures = areas(truth, np.arange(5.0), -np.arange(5.0), names(5), rounds=200)
    assert figures["first"] == {"value": 0, "low": 0, "high": 0}
    assert figures["second"] == {"value": 1, "low": 1, "high": 1}


def test_the_calibration_error_is_that_of_one_model():
    """Of the top class; films that are drawn twice count twice."""
    rng = np.random.default_rng(2)
    probabilities, labels = rng.dirichlet(np.ones(3), 80).astype(np.float32), rng.integers(0, 3, 80)
    confidence, correct = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    statistic = calibration_statistic(confidence, correct)
    assert statistic(np.ones(80)) == pytest.approx(calibration_error(probabilities, labels))
    drawn = rng.integers(0, 80, 80)
    times = np.bincount(drawn, minlength=80)
    assert statistic(times) == pytest.approx(calibration_error(probabilities[drawn], labels[drawn]))


def test_the_classwise_error_is_the_mean_over_classes():
    """0.9 of which all hold: 0.1. 0.4 of which none holds: 0.4."""
    confidence = np.tile(np.array([0.9, 0.4], np.float32), (6, 1))
    holds = np.tile([True, False], (6, 1))
    assert calibration_statistic(confidence, holds)(np.ones(6)) == pytest.approx(0.25)


def test_a_pivotal_interval_mirrors_the_percentiles():
    """Around the figure: what resampling raises, the interval lowers."""
    rng = np.random.default_rng(0)
    values = calibration_statistic(rng.random(60).astype(np.float32), rng.random(60) < 0.5)
    statistics = values, mean_statistic(np.ones(60))
    percentile, basic = (paired(*statistics, names(60), pivotal=pivotal)["first"] for pivotal in (False, True))
    assert basic["low"] == pytest.approx(2 * percentile["value"] - percentile["high"])
    assert basic["high"] == pytest.approx(2 * percentile["value"] - percentile["low"])
    assert basic["low"] < percentile["low"]


def test_mcnemar_by_hand():
    """1 became right and 5 wrong: two tails of a coin thrown six times, 2·(1 + 6)/64."""
    first = np.array([True] * 5 + [False] + [True, False] * 4)
    second = np.array([False] * 5 + [True] + [True, False] * 4)
    assert mcnemar(first, second) == {"became_right": 1, "became_wrong": 5, "p_value": pytest.approx(14 / 64)}
    assert mcnemar(first, first)["p_value"] == 1
