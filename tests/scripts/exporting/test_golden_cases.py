"""What an artefact carries so that it can be doubted, measured on models that were really exported."""

import shutil

import numpy as np
import pytest

from app.artifact.manifest import read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.artifact.store import seal, verify_files
from app.errors import SelfTestError
from app.explain.cams import METHODS, gradcam, normalise
from app.explain.warnings import border_share, diffuseness, heatmap_warnings, margin, prediction_warnings
from app.serving.self_test import read_golden, run_self_test
from scripts.exporting.golden_cases import CASES, THRESHOLD_IMAGES, EdgeDetector, golden_pictures, warning_thresholds
from scripts.exporting.keras_files import export
from tests import models
from tests.doubles import BrightnessRuntime


@pytest.fixture
def entry(entry_of):
    return entry_of(models.batch_norm_dropout)


def test_every_export_records_golden_cases(entry):
    """They are in the manifest, hashed, and the model passes them."""
    manifest = read_manifest(entry)
    assert manifest.self_test is not None
    assert manifest.self_test.cases == CASES
    assert "golden.npz" in manifest.files
    verify_files(entry, manifest)
    run_self_test(TensorFlowRuntime(entry), entry)
    golden = read_golden(entry / "golden.npz")
    np.testing.assert_array_equal(golden.images, golden_pictures(16, 16, 3))
    assert (golden.targets.argmax(axis=-1) == golden.probabilities.argmax(axis=-1)).all()


def test_golden_pictures_are_the_same_every_time_and_differ_from_one_another():
    """In colour and in grey."""
    for channels in (1, 3):
        pictures = golden_pictures(20, 30, channels)
        assert pictures.shape == (CASES, 20, 30, channels)
        np.testing.assert_array_equal(pictures, golden_pictures(20, 30, channels))
        assert len(np.unique(pictures.reshape(CASES, -1), axis=0)) == CASES


def test_a_model_with_randomised_weights_fails(entry, tmp_path):
    """Files that match their digests again do not make it the model that was exported."""
    other = models.randomised(models.batch_norm_dropout(), seed=5)
    forged = export(other, ("a", "b", "c"), "forged", tmp_path)
    shutil.copy(entry / "golden.npz", forged)
    seal(forged, read_manifest(entry))
    runtime = TensorFlowRuntime(forged)
    with pytest.raises(SelfTestError, match=r"differ from those recorded at its export by up to"):
        run_self_test(runtime, forged)


def test_the_edge_detector_knows_no_weights(entry):
    """Its correlation stays 1 however much is randomised, which is what the maps' is held against."""
    sanity = read_manifest(entry).sanity
    assert sanity is not None
    assert len(sanity.correlations) == len(sanity.control) == 3  # two convolutions and a dense layer
    assert sanity.control == (1.0, 1.0, 1.0)
    assert min(sanity.correlations) < 1.0


def test_the_edge_detectors_map_is_the_edges(entry):
    """A vertical line between black and white lights up its cells and no others."""
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :, 9:] = 255
    found = EdgeDetector(entry).evidence(image, np.zeros((1, 1, 3), np.float32))
    heat = gradcam(found.features[0], found.gradients[0, 0])
    assert heat.shape == (8, 8)
    assert (heat[:, 4] > 0).all()
    assert (np.delete(heat, 4, axis=1) == 0).all()


def test_a_model_whose_maps_ignore_its_weights_is_found_out(entry_of):
    """A single feature channel with constant weights: randomised around their own mean they stay what they are."""
    sanity = read_manifest(entry_of(models.planted_square)).sanity
    assert sanity is not None
    assert abs(sanity.correlations[-1]) == 1.0


def test_thresholds_are_quantiles_of_the_training_films(runtime_of):
    """Of each method's maps for the predicted class: a twentieth of the films lies beyond each."""
    runtime = runtime_of(models.batch_norm_dropout)
    films = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    spec, region = warning_thresholds(runtime, films)
    assert region is None
    assert (spec.films, spec.quantile) == (40, 0.95)
    evidence = runtime.evidence(films, np.zeros((40, 1, 3), np.float32))
    maps = [normalise(gradcam(a, g[0])) for a, g in zip(evidence.features, evidence.gradients, strict=True)]
    lit = [one.values for one in maps if not one.empty]
    assert spec.heat["gradcam"].border_heat == pytest.approx(np.quantile([border_share(v) for v in lit], 0.95))
    assert spec.heat["gradcam"].diffuse_heat == pytest.approx(np.quantile([diffuseness(v) for v in lit], 0.95))
    assert spec.low_margin == pytest.approx(np.quantile([margin(p) for p in evidence.probabilities], 0.05))
    assert set(spec.heat) <= set(METHODS)
    model = runtime.manifest.model_copy(update={"cautions": spec})
    close = [
        (*prediction_warnings(model, probabilities.tolist(), 0.0), *heatmap_warnings(model, "gradcam", one))
        for one, probabilities in zip(maps, evidence.probabilities, strict=True)
    ]
    assert sum(any(c.code == "low_margin" for c in found) for found in close) == 2


def test_the_thresholds_of_a_network_that_crops_count_the_images_border(runtime_of):
    """Its map ends inside the image, so that none of its heat is at the border."""
    films = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
    cropped, _ = warning_thresholds(runtime_of(models.cropped_square), films)
    padded, _ = warning_thresholds(runtime_of(models.padded_square), films)
    assert cropped.heat["gradcam"].border_heat == 0.0
    assert padded.heat["gradcam"].border_heat > 0.0


def organ_film(*spots):
    """A red ring of 16 x 16 pixels, in the middle of 32 x 32, with a green spot of 4 x 4 at each (row, column)."""
    film = np.zeros((32, 32, 3), np.uint8)
    film[8:24, 8:24, 0] = 255
    film[12:20, 12:20, 0] = 0
    for row, column in spots:
        film[row : row + 4, column : column + 4, 1] = 255
    return film


def test_the_usual_share_of_heat_in_the_region_is_measured(runtime_of):
    """One spot in the ring and one in its hole: half of the heat; films without the organ say nothing about it.

    The map is hot at each spot alike, and the ring covers whole cells: 8, 12, 16 and 20 are their edges.
    """
    inside, half = organ_film((8, 8)), organ_film((8, 8), (12, 12))
    no_organ = half * np.array([0, 1, 1], np.uint8)
    films = np.stack([inside] * 30 + [half] * 10 + [no_organ] * 20)
    thresholds, region = warning_thresholds(runtime_of(models.red_organ), films)
    assert region.name == "organ"
    assert region.min_share_of_heat["gradcam"] == pytest.approx(0.5)
    assert set(region.min_share_of_heat) == set(METHODS)
    assert thresholds.heat["gradcam"].border_heat < 1  # of films without the organ, the border is the image's


def test_of_many_films_some_are_drawn():
    """The first and the last half differ; both are asked."""

    class Counting(BrightnessRuntime):
        asked = 0

        def evidence(self, images, targets):
            self.asked += len(images)
            return super().evidence(images, targets)

    runtime = Counting()
    films = np.repeat(np.array([60, 250], np.uint8), 300)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    spec, _ = warning_thresholds(runtime, films)
    assert runtime.asked == spec.films == THRESHOLD_IMAGES
    assert spec.heat["gradcam"].diffuse_heat == pytest.approx(1.0)  # dark ones have no heat, bright ones a flat one


def test_a_model_without_training_films_has_no_thresholds(entry):
    """An export of somebody's Keras file."""
    assert read_manifest(entry).cautions is None
