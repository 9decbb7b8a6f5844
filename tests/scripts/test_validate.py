"""Validation of recipes, end to end on generated films with a tiny backbone."""

import dataclasses
import json

import pytest

from scripts.training.recipe import Recipe
from scripts.training.validation import ValidationScheme, validate
from scripts.validate import main
from tests import tiny
from tests.films import write_table

RECIPE = Recipe(backbone="tiny-frozen", weights="none", variants=0, lung_epochs=2)


@pytest.fixture(autouse=True)
def tiny_backbone():
    tiny.register()
    yield
    tiny.unregister()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data"), patients=20, films_each=2)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A film per patient: leaving out a source leaves the other's patients."""
    return write_table(tmp_path_factory.mktemp("single"), patients=24, films_each=1)


@pytest.mark.parametrize("split", ["patient", "image"])
def test_every_film_is_judged_once(data, tmp_path, split):
    """Over all folds as many films as there are; bright is told from dark."""
    figures = validate(data, tmp_path, RECIPE, ValidationScheme(split, fold_count=4))
    assert figures["all"]["accuracy"] == {"value": 1.0, "low": pytest.approx(0.912, abs=1e-3), "high": 1.0, "films": 40}
    assert list(figures["parts"]) == ["fold 1", "fold 2", "fold 3", "fold 4"]
    assert sum(part["accuracy"]["films"] for part in figures["parts"].values()) == 40
    assert figures["recipe"]["backbone"] == "tiny-frozen"


def test_a_source_is_left_out(single, tmp_path):
    """Each part tells how much was left to train on."""
    figures = validate(single, tmp_path, RECIPE, ValidationScheme("source"))
    parts = figures["parts"]
    assert {name: list(part["sources"]) for name, part in parts.items()} == {
        "source here": ["here"],
        "source there": ["there"],
    }
    assert [part["trained_on"] + part["accuracy"]["films"] for part in parts.values()] == [24, 24]


def test_films_left_aside_are_asked_about(single, tmp_path):
    """By the recipe trained on all that were not."""
    figures = validate(single, tmp_path, RECIPE, ValidationScheme(fold_count=2, only=("source", "here")))
    here = figures["all"]["accuracy"]["films"]
    assert figures["data"]["films"] == figures["elsewhere"]["trained_on"] == here
    assert figures["elsewhere"]["accuracy"]["films"] == 24 - here
    assert list(figures["elsewhere"]["sources"]) == ["there"]


def test_recipes_share_features_and_a_repetition_repeats(data, tmp_path):
    """The second recipe finds what the first computed; the figures of one recipe are always the same."""
    first = validate(data, tmp_path, RECIPE, ValidationScheme(fold_count=2))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    validate(
        data, tmp_path, dataclasses.replace(RECIPE, head="kernel", weighting="none"), ValidationScheme(fold_count=2)
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    assert validate(data, tmp_path, RECIPE, ValidationScheme(fold_count=2)) == first


def test_the_command_prints_and_writes(single, tmp_path, capsys):
    """A line per part and area; all figures as JSON."""
    options = ["--backbone", "tiny-frozen", "--weights", "none", "--variants", "0", "--head", "kernel"]
    where = ["--data", str(single), "--work", str(tmp_path), "--out", str(tmp_path / "figures.json")]
    assert main([*where, *options, "--leave-out", "source"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("all: accuracy 1.000 (0.862 to 1.000), 24 films\n")
    assert "  here: dark against bright, area 1.000" in out
    assert json.loads((tmp_path / "figures.json").read_text())["protocol"]["split"] == "source"


@pytest.mark.parametrize(
    ("option", "said"), [(["--leave-out", "planet"], "no column 'planet'"), (["--only", "source=mars"], "'mars'")]
)
def test_a_protocol_that_can_not_be_is_refused(data, tmp_path, capsys, option, said):
    """Status 1, and what there is."""
    command = ["--data", str(data), "--work", str(tmp_path), "--backbone", "tiny-frozen", "--weights", "none"]
    assert main([*command, *option]) == 1
    assert said in capsys.readouterr().err


def test_half_a_selection_is_refused(data, capsys):
    """As any other misuse of the command line."""
    with pytest.raises(SystemExit):
        main(["--data", str(data), "--only", "source"])
    assert "COLUMN=VALUE" in capsys.readouterr().err
