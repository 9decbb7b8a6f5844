"""Several data folders taken together."""

import argparse
import csv

import pytest

from scripts.datasets.collection import Selection, column_and_value, read_collection
from scripts.errors import DataError
from tests.films import write_table


def relabel(folder, old, new):
    """Give every film of label `old` in the table of `folder` the label `new`."""
    with (folder / "metadata.csv").open(newline="") as file:
        rows = [row | {"label": new} if row["label"] == old else row for row in csv.DictReader(file)]
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folders(tmp_path):
    """Two folders of six films; three of the second folder have the label OTHER, and all of them have masks."""
    first = write_table(tmp_path / "first", patients=6, films_each=1)
    second = write_table(tmp_path / "second", patients=6, films_each=1, masks=True)
    relabel(second, "dark", "OTHER")
    return first, second


def test_folders_are_pooled(folders):
    """Films of no class are apart, and their masks count."""
    collection = read_collection(Selection(folders, others=("OTHER",)))
    assert [film.label for film in collection.others] == ["OTHER"] * 3
    assert len(collection.films) == 9
    assert len(collection.masked) == 6
    assert not collection.excluded


def test_excluded_films_are_apart(folders):
    """By a column and a value."""
    collection = read_collection(Selection(folders, others=("OTHER",), excluded=("source", "there")))
    assert {film.source for film in collection.films} == {"here"}
    assert {film.source for film in collection.excluded} == {"there"}
    assert len(collection.films) + len(collection.excluded) == 9


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"others": ("NOTHING",)}, "no film has the label 'NOTHING'"),
        ({"excluded": ("source", "mars")}, "no film has 'mars' in column 'source'"),
    ],
)
def test_what_no_film_has_is_refused(folders, options, reason):
    """A typing error would otherwise train on what was to be left out."""
    with pytest.raises(DataError, match=reason):
        read_collection(Selection(folders, **options))


def test_a_column_needs_a_value():
    """Which may have an equals sign itself."""
    assert column_and_value("set=a=b") == ("set", "a=b")
    with pytest.raises(argparse.ArgumentTypeError, match="COLUMN=VALUE"):
        column_and_value("set")
