"""Which films are trained on, and which are tested on."""

import numpy as np
import pytest

from scripts.datasets.films import Film, patient_key, read_films
from scripts.datasets.splits import TrainTestSplit, k_fold, leave_one_group_out, select_films
from scripts.errors import DataError
from tests.films import write_folder, write_table


@pytest.fixture
def films(tmp_path):
    return read_films(write_table(tmp_path, patients=20, films_each=3))


def persons(films, indices):
    return {patient_key(films[i]) for i in indices}


def test_each_chosen_film_is_tested_once_and_no_other_is_used(films):
    """By patient, and by image."""
    chosen = list(range(0, 60, 2))
    for by_patient in (True, False):
        parts = k_fold(films, chosen, 4, 0, by_patient=by_patient)
        assert sorted(i for part in parts for i in part.test) == chosen
        for part in parts:
            assert sorted([*part.train, *part.test]) == chosen


def test_by_patient_no_one_is_on_both_sides_by_image_some_are(films):
    """Which is what makes the second easier."""
    every = list(range(60))
    for part in k_fold(films, every, 4, 0, by_patient=True):
        assert not persons(films, part.train) & persons(films, part.test)
    by_image = k_fold(films, every, 4, 0, by_patient=False)
    assert any(persons(films, part.train) & persons(films, part.test) for part in by_image)


def hospitals(*rows):
    """Films of (label, place, patient)."""
    return [Film(path=None, label=label, patient=who, columns={"place": place}) for label, place, who in rows]


def test_each_value_is_left_out_once_with_its_patients():
    """Anna was filmed at both places: she is tested twice, and never trained on."""
    films = hospitals(
        ("a", "x", "anna"),
        ("b", "x", "bert"),
        ("a", "x", "carl"),
        ("a", "y", "anna"),
        ("b", "y", "dora"),
        ("a", "y", "ed"),
    )
    here, there = leave_one_group_out(films, range(6), "place")
    assert (here.name, here.train.tolist(), here.test.tolist()) == ("place x", [4, 5], [0, 1, 2])
    assert (there.name, there.train.tolist(), there.test.tolist()) == ("place y", [1, 2], [3, 4, 5])


def test_a_value_without_which_one_class_is_left_stays():
    """There is nothing to be learnt from one class."""
    films = hospitals(("a", "x", "1"), ("b", "x", "2"), ("a", "y", "3"), ("b", "y", "4"), ("b", "z", "5"))
    assert [part.name for part in leave_one_group_out(films, range(5), "place")] == ["place x", "place y", "place z"]
    assert [part.name for part in leave_one_group_out(films, [0, 1, 2, 3], "place")] == ["place x", "place y"]
    with pytest.raises(DataError, match="still have two classes"):
        leave_one_group_out(films, [0, 1, 4], "place")


def test_films_are_selected_by_any_column(films):
    """And what is not there is named."""
    assert {films[i].source for i in select_films(films, "source", "here")} == {"here"}
    with pytest.raises(DataError, match="there are here, there"):
        select_films(films, "source", "nowhere")
    with pytest.raises(DataError, match="it has file, label"):
        select_films(films, "hospital", "here")


def test_sub_folders_have_no_columns(tmp_path):
    """Said so."""
    with pytest.raises(DataError, match="it has no table"):
        leave_one_group_out(read_films(write_folder(tmp_path, each=2)), range(4), "source")


def test_too_few_films_are_refused(films):
    """With their number."""
    with pytest.raises(DataError, match="2 films can't be split into 3 parts"):
        k_fold(films, [0, 3], 3, 0, by_patient=False)


def test_a_part_without_patients_keeps_the_test_whole(films):
    """What gives way is the training."""
    part = TrainTestSplit.by_patient("p", films, np.arange(0, 58), [1, 59])
    assert part.test.tolist() == [1, 59]
    assert not persons(films, part.train) & persons(films, part.test)
    assert len(part.train) == 58 - 3 - 1
