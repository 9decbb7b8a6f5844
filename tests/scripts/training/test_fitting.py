"""Fitting a network to cached features."""

import dataclasses

import numpy as np
import pytest

from scripts.datasets.films import read_films
from scripts.training.features import FeatureCache, cache_features
from scripts.training.fitting import Fitter, fit_lungs, network_for, variants_of
from scripts.training.recipe import Recipe
from tests.films import write_table

pytestmark = pytest.mark.usefixtures("tiny_backbones")

RECIPE = Recipe(
    backbone="tiny",
    weights="none",
    variants=1,
    epochs=6,
    batch_size=8,
    learning_rate=1e-3,
    head_learning_rate=3e-2,
    head_decay=0.0,
    lung_epochs=3,
)


def test_without_a_mask_to_learn_from_the_gate_is_open(tmp_path):
    """Where the only source with masks is left out, the gate takes everything for lung."""
    films = read_films(write_table(tmp_path, patients=20, films_each=2, masks=True))
    network = network_for(films, 2, dataclasses.replace(RECIPE, least_masks=10))
    cuts = np.random.default_rng(0).random((len(films), 16, 16, 4)).astype(np.float16)
    fit_lungs(network, FeatureCache([cuts], [np.zeros((0, 16, 16, 1), np.float32)], []), range(len(films)), RECIPE)
    np.testing.assert_allclose(network.lungs(cuts[:2].astype(np.float32)), np.ones((2, 16, 16, 1)), atol=1e-6)


def fitter_of(data, work, recipe):
    """A fitter for the films of `data`, and their labels."""
    films = read_films(data)
    network = network_for(films, 2, recipe)
    work.mkdir()
    cache = cache_features(network, films, variants_of(recipe), work)
    labels = np.array([film.label == "dark" for film in films], int)
    return Fitter(network, cache, films, labels, recipe), labels


def test_fine_tuning_learns_within_the_lungs(tmp_path):
    """Films of other patients are told apart, and features outside the lungs have less energy."""
    data = write_table(tmp_path, patients=20, films_each=2, masks=True)
    recipe = dataclasses.replace(RECIPE, least_masks=10, lung_epochs=12)
    fitter, labels = fitter_of(data, tmp_path / "work", recipe)
    seen, unseen = np.arange(28), np.arange(28, 40)
    fitter.fit(seen)
    assert (fitter.probabilities(unseen).argmax(axis=-1) == labels[unseen]).all()
    film = np.full((1, 32, 32, 3), 190, np.float32)
    film[:, :, 16:] = 60  # the masks of the generated films cover what is bright
    network = fitter.network
    energy = np.asarray(network.tail(network.frozen(film)))[0].sum(axis=-1)
    assert energy[:, :4].mean() > 3 * energy[:, 4:].mean()


def fitted_weights(data, work, seed):
    """The weights of a network that is fitted to all films of `data`."""
    fitter, labels = fitter_of(data, work, dataclasses.replace(RECIPE, epochs=1, seed=seed))
    fitter.fit(np.arange(len(labels)))
    return [weights for part in fitter.network.trained for weights in part.get_weights()]


def test_the_seed_decides(data, tmp_path):
    """The same seed gives the same weights, and another seed gives others."""
    a, b, c = (fitted_weights(data, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))
