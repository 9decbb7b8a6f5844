"""Data folders, and their splits."""

import csv

import numpy as np
import pytest
from PIL import Image

from app.artifact.manifest import InputSpec
from scripts.datasets.films import class_names, digest, film_weights, patient_folds, read_films, read_pixels
from scripts.errors import DataError
from tests.films import write_folder, write_table


def test_a_table_tells_label_patient_and_source(tmp_path):
    """As metadata.csv says."""
    films = read_films(write_table(tmp_path, patients=6, films_each=2))
    assert len(films) == 12
    assert {film.patient for film in films} == {f"p{i}" for i in range(6)}
    assert {film.label for film in films} == {"bright", "dark"}
    assert {film.source for film in films} == {"here", "there"}


def test_sub_folders_are_classes(tmp_path):
    """Where there is no table; what is no image is passed over."""
    folder = write_folder(tmp_path, each=3)
    (folder / "dark" / "notes.txt").write_text("x")
    films = read_films(folder)
    assert [film.label for film in films] == ["bright"] * 3 + ["dark"] * 3
    assert films[0].patient == ""


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_folds(tmp_path, seed):
    """Every film is in exactly one fold, and every fold has films of every class."""
    films = read_films(write_table(tmp_path, patients=25, films_each=3))
    folds = patient_folds(films, 5, seed)
    patients = [{films[i].patient for i in fold} for fold in folds]
    assert sum(len(group) for group in patients) == len(set.union(*patients)) == 25
    assert sorted(i for fold in folds for i in fold) == list(range(len(films)))
    for fold in folds:
        assert {films[i].label for i in fold} == {"bright", "dark"}


def test_folds_depend_on_the_seed_alone(tmp_path):
    """The same seed gives the same folds; another seed gives others."""
    films = read_films(write_table(tmp_path, patients=25, films_each=2))
    assert patient_folds(films, 5, 3) == patient_folds(films, 5, 3)
    assert patient_folds(films, 5, 3) != patient_folds(films, 5, 4)


def test_films_without_patients_are_split_one_by_one(tmp_path):
    """Each is its own."""
    assert sorted(len(part) for part in patient_folds(read_films(write_folder(tmp_path, each=5)), 5, 0)) == [2] * 5


def test_too_few_films_are_refused(tmp_path):
    """With the number."""
    with pytest.raises(DataError, match="can't be split"):
        patient_folds(read_films(write_folder(tmp_path, each=1)), 5, 0)


def test_classes_are_sorted_or_as_asked(tmp_path):
    """An order must name them all."""
    films = read_films(write_folder(tmp_path, each=1))
    assert class_names(films) == ("bright", "dark")
    assert class_names(films, ["dark", "bright"]) == ("dark", "bright")
    with pytest.raises(DataError, match="--classes"):
        class_names(films, ["dark"])
    with pytest.raises(DataError, match="two classes"):
        class_names(films[:1])


def test_the_digest_knows_bytes_and_labels_not_order(tmp_path):
    """What the data was."""
    films = read_films(write_folder(tmp_path, each=2))
    assert digest(films) == digest(films[::-1])
    assert digest(films) != digest(films[1:])
    before = digest(films)
    Image.new("L", (9, 9), 3).save(films[0].path)
    assert digest(films) != before


def test_balancing_gives_every_class_its_share_and_every_source_the_root_of_its(tmp_path):
    """Of a class, sources weigh as the roots of their films; of all, each class the same; the mean is 1."""
    films = read_films(write_table(tmp_path, patients=9, films_each=2))
    weights = np.array(film_weights(films))
    assert weights.mean() == pytest.approx(1)
    for label in ("bright", "dark"):
        of_label = np.array([film.label == label for film in films])
        assert weights[of_label].sum() == pytest.approx(len(films) / 2)
        here, there = (of_label & [film.source == source for film in films] for source in ("here", "there"))
        assert here.sum() != there.sum()
        assert weights[here].sum() / weights[there].sum() == pytest.approx((here.sum() / there.sum()) ** 0.5)


def test_cells_weigh_the_root_of_their_films(tmp_path):
    """A class of two sources then weighs more than it would alone; the mean is 1."""
    films = read_films(write_table(tmp_path, patients=9, films_each=2))
    weights = np.array(film_weights(films, "cell"))
    assert weights.mean() == pytest.approx(1)
    cells = {(film.label, film.source) for film in films}
    totals = {
        cell: (sum(at := [(film.label, film.source) == cell for film in films]), weights[at].sum()) for cell in cells
    }
    ratios = [total / count**0.5 for count, total in totals.values()]
    assert ratios == pytest.approx([ratios[0]] * 4)


def test_pixels_are_those_that_the_service_would_see(tmp_path):
    """One array for all films."""
    films = read_films(write_folder(tmp_path, each=2))
    pixels = read_pixels(films, InputSpec(height=8, width=8, channels=3, fit="crop"))
    assert (pixels.shape, pixels.dtype) == ((4, 8, 8, 3), np.uint8)


def test_films_that_can_not_be_read_are_all_named(tmp_path):
    """Before hours are spent on the rest."""
    folder = write_folder(tmp_path, each=3)
    for name in ("bright/0.png", "dark/1.png"):
        (folder / name).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"(?s)2 films.*bright/0\.png.*dark/1\.png"):
        read_pixels(read_films(folder), InputSpec(height=8, width=8, channels=3, fit="crop"))


@pytest.mark.parametrize("rows", [None, [], [{"file": "x.png", "label": "a"}], [{"name": "x.png"}]])
def test_a_folder_that_can_not_be_used_is_refused(tmp_path, rows):
    """Absent, empty, naming files that aren't there, or without the columns."""
    folder = tmp_path / "data"
    if rows is not None:
        folder.mkdir()
        with (folder / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0] if rows else ["file", "label"])
            writer.writeheader()
            writer.writerows(rows)
    with pytest.raises(DataError):
        read_films(folder)


def test_the_real_films(films):
    """1,521 of 989 patients, 160 with lung masks."""
    read = read_films(films)
    assert len(read) == 1521
    assert len({film.patient for film in read}) == 989
    assert sum(film.mask is not None for film in read) == 160
