"""Validation of recipes on generated films with a tiny backbone."""

import dataclasses

import pytest

from scripts.datasets.collection import Selection
from scripts.training.recipe import Recipe
from scripts.training.validation import ValidationScheme, summary_lines, validate

pytestmark = pytest.mark.usefixtures("tiny_backbones")

RECIPE = Recipe(backbone="tiny-frozen", weights="none", variants=0, lung_epochs=2)


@pytest.mark.parametrize("split", ["patient", "image"])
def test_every_film_is_judged_once(data, tmp_path, split):
    """Over all folds as many films as there are; bright is told from dark."""
    figures = validate(Selection((data,)), tmp_path, RECIPE, ValidationScheme(split, fold_count=4))
    assert figures["all"]["accuracy"] == {"value": 1.0, "low": pytest.approx(0.912, abs=1e-3), "high": 1.0, "films": 40}
    assert list(figures["parts"]) == ["fold 1", "fold 2", "fold 3", "fold 4"]
    assert sum(part["accuracy"]["films"] for part in figures["parts"].values()) == 40
    assert figures["recipe"]["backbone"] == "tiny-frozen"


def test_a_source_is_left_out(single_films, tmp_path):
    """Each part tells how much was left to train on."""
    figures = validate(Selection((single_films,)), tmp_path, RECIPE, ValidationScheme("source"))
    parts = figures["parts"]
    assert {name: list(part["sources"]) for name, part in parts.items()} == {
        "source here": ["here"],
        "source there": ["there"],
    }
    assert [part["trained_on"] + part["accuracy"]["films"] for part in parts.values()] == [24, 24]


def test_films_left_aside_are_asked_about(single_films, tmp_path):
    """By the recipe trained on all that were not."""
    figures = validate(
        Selection((single_films,)), tmp_path, RECIPE, ValidationScheme(fold_count=2, only=("source", "here"))
    )
    here = figures["all"]["accuracy"]["films"]
    assert figures["data"]["films"] == figures["elsewhere"]["trained_on"] == here
    assert figures["elsewhere"]["accuracy"]["films"] == 24 - here
    assert list(figures["elsewhere"]["sources"]) == ["there"]


def test_recipes_share_features_and_a_repetition_repeats(data, tmp_path):
    """The second recipe finds what the first computed; the figures of one recipe are always the same."""
    first = validate(Selection((data,)), tmp_path, RECIPE, ValidationScheme(fold_count=2))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    validate(
        Selection((data,)),
        tmp_path,
        dataclasses.replace(RECIPE, head="kernel", weighting="none"),
        ValidationScheme(fold_count=2),
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert validate(Selection((data,)), tmp_path, RECIPE, ValidationScheme(fold_count=2)) == first


def test_excluded_films_are_asked_about_but_not_trained_on(single_films, tmp_path):
    """They take no part in the folds."""
    selection = Selection((single_films,), excluded=("source", "there"))
    figures = validate(selection, tmp_path, RECIPE, ValidationScheme(fold_count=2))
    assert list(figures["all"]["sources"]) == ["here"]
    assert list(figures["elsewhere"]["sources"]) == ["there"]
    assert figures["elsewhere"]["trained_on"] == figures["all"]["accuracy"]["films"]
    assert figures["elsewhere"]["against_first"]["value"] == 1.0


def test_what_the_source_alone_says_is_reported(single_films, tmp_path):
    """Both sources have both classes, so that a guess from the source is no better than the larger class."""
    figures = validate(Selection((single_films,)), tmp_path, RECIPE, ValidationScheme(fold_count=4))
    assert figures["source_alone"]["accuracy"]["value"] < 0.8
    assert figures["all"]["accuracy"]["value"] == 1.0
    assert summary_lines(figures)[-1].startswith("the source alone: accuracy 0.")


def test_a_head_on_moments_and_variants_learns(single_films, tmp_path):
    """Mean and deviation of each feature, of each film and its variant."""
    recipe = dataclasses.replace(RECIPE, head="moments", variants=1, augmented_head=True)
    figures = validate(Selection((single_films,)), tmp_path, recipe, ValidationScheme(fold_count=2))
    assert figures["all"]["accuracy"]["value"] == 1.0


def test_each_class_may_come_from_a_source_of_its_own(single_films, tmp_path):
    """Then the source alone says everything, and the films of the other sources tell what that was worth."""
    scheme = ValidationScheme("image", fold_count=2, class_sources=(("bright", "here"), ("dark", "there")))
    figures = validate(Selection((single_films,)), tmp_path, RECIPE, scheme)
    assert figures["source_alone"] == {"accuracy": figures["all"]["accuracy"], "balanced": 1.0}
    assert figures["all"]["accuracy"]["value"] == 1.0
    assert figures["elsewhere"]["accuracy"]["films"] == 24 - figures["data"]["films"]
