"""The heat inside the region that a model finds, on a model whose answers follow from its weights."""

import numpy as np
import pytest

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.films import read_films
from scripts.evaluation.predictions import predict_films
from scripts.evaluation.regions import region_figures, region_shares
from tests import models
from tests.films import write_table


def test_the_shares_are_as_computed_by_hand(entry_of):
    """A red square of a quarter of the image is the region; of a film without red, nothing is known."""
    runtime = TensorFlowRuntime(entry_of(models.red_organ))
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, 8:24, 8:24, 0] = 200
    images[:, 8:24, 8:16, 1] = 255  # what the model calls bright
    (square, of_cells), (nothing, of_nothing) = region_shares(runtime, runtime.manifest.region, images)
    assert (square.found, nothing.found) == (True, False)
    assert square.share_of_image == pytest.approx(0.25)
    assert of_cells == pytest.approx(1.0)
    assert square.share_of_heat == pytest.approx(1.0)
    assert (nothing.share_of_image, nothing.share_of_heat, of_nothing) == (0, None, 0)


def test_figures_are_by_class(entry_of, tmp_path):
    """Bright films are red all over, dark ones nowhere; a model without a region has no figures."""
    films = read_films(write_table(tmp_path, patients=8, films_each=1))
    entry = entry_of(models.red_organ)
    figures = region_figures([(entry, predict_films(entry, films))])
    assert figures["name"] == "organ"
    assert {label: row["found"]["value"] for label, row in figures["classes"].items()} == {"dark": 0, "bright": 1}
    assert figures["classes"]["bright"]["share_of_cells"]["value"] == pytest.approx(1.0)
    assert figures["classes"]["dark"]["share_of_heat"]["value"] is None
    assert 0 <= figures["elsewhere"]["natural pictures"]["value"] <= 1


def test_a_model_without_a_region_has_no_figures(entry_of, tmp_path):
    """As every older artefact."""
    films = read_films(write_table(tmp_path, patients=8, films_each=1))
    with_region = entry_of(models.red_organ)
    predictions = predict_films(with_region, films)
    assert region_figures([(entry_of(models.gap_linear), predictions)]) is None
