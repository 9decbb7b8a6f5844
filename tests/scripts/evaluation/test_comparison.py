"""Methods compared on a model whose maps are known."""

import numpy as np
import pytest

from app.explain.cams import METHODS
from scripts.datasets.films import Film, read_films
from scripts.evaluation import comparison
from scripts.evaluation.comparison import compare_methods, sample_films
from scripts.evaluation.statistics import mean_by_patient
from tests import models
from tests.films import write_table


@pytest.fixture(scope="module")
def found(runtime_of, tmp_path_factory):
    """The figures of a model of bright places, on films whose left half is bright and is lung."""
    folder = write_table(tmp_path_factory.mktemp("films"), patients=6, films_each=2, masks=True)
    return compare_methods(runtime_of(models.planted_square), read_films(folder))


def test_every_method_is_measured(found):
    """With intervals over patients, of which there are six."""
    assert list(found["methods"]) == list(METHODS)
    for figures in found["methods"].values():
        for name in ("inside_lungs", "deletion_area", "insertion_area", "score", "average_drop"):
            assert figures[name]["patients"] in (3, 6)  # dark films may have no heat
            assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
        assert figures["milliseconds"] > 0
    assert found["films"] == {"masked": 12, "hidden_and_revealed": 12}


def test_a_single_channel_leaves_nothing_to_choose(found):
    """One feature map, one weight: every method that answers a class has the same map, so the same figures."""
    same = [found["methods"][name] for name, method in METHODS.items() if method.class_specific]
    assert {figures["score"]["value"] for figures in same} == {same[0]["score"]["value"]}
    assert found["agreement"]["gradcam, hirescam"]["value"] == pytest.approx(1.0)
    assert len(found["agreement"]) == 15


def test_heat_inside_the_lungs_is_found(found):
    """The bright half is lung; of the bright films some heat lies outside."""
    assert 0.5 < found["methods"]["gradcam"]["inside_lungs"]["value"] <= 1.0


def test_films_of_one_patient_count_once():
    """2 and 4 of one patient, and 9 of another: the mean of 3 and 9; what is missing is left out."""
    figure = mean_by_patient([2.0, 4.0, 9.0, None], ["a", "a", "b", "c"])
    assert (figure["value"], figure["patients"]) == (6.0, 2)


def test_films_are_drawn_by_chance_and_always_the_same(tmp_path):
    """And no more than are to be hidden and revealed."""
    films = [Film(tmp_path / f"{i}.png", "a") for i in range(comparison.FAITHFULNESS_FILMS * 3)]
    chosen = sample_films(films)
    assert len(chosen) == comparison.FAITHFULNESS_FILMS
    assert chosen == sample_films(films)
    assert np.mean([films.index(film) for film in chosen]) > comparison.FAITHFULNESS_FILMS / 2
