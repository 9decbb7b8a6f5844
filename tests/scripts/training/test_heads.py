"""The regressions that become a head, against scikit-learn's and by hand."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from scripts.datasets.films import Film
from scripts.errors import DataError
from scripts.networks.backbones import Backbone, build_network
from scripts.training import heads
from scripts.training.fitting import network_for
from scripts.training.recipe import Recipe
from tests import tiny


@pytest.fixture(scope="module")
def rings():
    """What no line tells apart: a ring around a disc, in moments of which all but two say nothing."""
    rng = np.random.default_rng(0)
    angle, label = rng.uniform(0, 2 * np.pi, 120), np.arange(120) % 2
    radius = 0.5 + 2 * label + rng.normal(0, 0.1, 120)
    values = np.zeros((120, 12))
    values[:, :2] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return values * 4, label


def head_of(classes, centres):
    backbone = Backbone(tiny.build, 32, "high")
    return build_network(
        backbone,
        "none",
        classes,
        gated=False,
        dropout=0.0,
        seed=0,
        head="kernel" if centres else "logistic",
        centres=centres,
    ).head


def films_of(labels):
    return [Film(path=None, label=str(label), patient=str(i)) for i, label in enumerate(labels)]


def answers(head, values):
    """Past the pooling: what the fitted layers make of standardised values."""
    x = values.astype(np.float32)
    for name in ("kernel", "logits"):
        if name in [layer.name for layer in head.layers]:
            x = head.get_layer(name)(x)
    return np.asarray(x)


def test_a_kernel_head_is_kernel_ridge_regression(rings):
    """scikit-learn's, at the width and ridge that were chosen, with weights, and with room for more centres."""
    values, labels = rings
    head, weights = head_of(2, 150), np.where(labels == 1, 0.5, 1.5)
    heads.fit_kernel(head, values, labels, weights, films_of(labels), Recipe(head="kernel"))
    width = float(head.get_layer("kernel").get_weights()[1])
    mean = np.average(np.eye(2)[labels], axis=0, weights=weights)
    expected = [
        KernelRidge(alpha=ridge, kernel="rbf", gamma=width / 12).fit(values, np.eye(2)[labels] - mean, weights)
        for ridge in heads.RIDGES
    ]
    found = answers(head, values)
    assert min(np.abs(found - one.predict(values) - mean).max() for one in expected) < 1e-4
    assert (found.argmax(axis=-1) == labels).mean() > 0.95


def test_a_logistic_head_can_not_tell_a_ring(rings):
    """Which is what the kernel is for."""
    values, labels = rings
    head = head_of(2, 0)
    heads.fit_logistic(head, values[:, :6], labels, np.ones(120), films_of(labels), Recipe())
    assert (answers(head, values[:, :6]).argmax(axis=-1) == labels).mean() < 0.8


@pytest.mark.parametrize(("fit", "centres", "depth"), [(heads.fit_kernel, 120, 12), (heads.fit_logistic, 0, 6)])
def test_a_class_without_films_is_never_the_answer(rings, fit, centres, depth):
    """Where a source is left out, its class may be with it; the logits keep their places."""
    values, labels = rings
    head = head_of(3, centres)
    fit(head, values[:, :depth], labels * 2, np.ones(120), films_of(labels * 2), Recipe())
    assert set(answers(head, values[:, :depth]).argmax(axis=-1)) <= {0, 2}


@pytest.mark.usefixtures("tiny_backbones")
def test_a_kernel_head_on_features_that_are_fine_tuned_is_refused():
    """The features would move away from the centres of the kernel."""
    with pytest.raises(DataError, match="tiny is fine-tuned"):
        network_for(films_of([0, 1]), 2, Recipe(backbone="tiny", weights="none", head="kernel"))
