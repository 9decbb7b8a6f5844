"""Robustness checks on models whose answers are known."""

import numpy as np
import pytest
from PIL import Image

from app.artifact.manifest import InputSpec
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.films import Film, read_films, read_pixels
from scripts.datasets.out_of_distribution import out_of_distribution_samples
from scripts.evaluation import robustness
from tests import models
from tests.doubles import BrightnessRuntime, manifest
from tests.films import write_table


def film(folder, name, pixels, **facts):
    path = folder / f"{name}.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return Film(path, facts.pop("label", "bright"), **facts)


def test_a_model_that_reads_brightness_changes_its_mind_with_gamma_only(tmp_path):
    """Squares are not squashed; JPEG keeps the mean; gamma 0.7 lifts 90 above the class border, 1.4 lowers 180."""
    films = [film(tmp_path, f"{level}", np.full((32, 32), level)) for level in (75, 180)]
    changed = robustness.changed_answers(BrightnessRuntime(), films)
    assert {name: found.tolist() for name, found in changed.items()} == {
        "squashed to a square": [False, False],
        "padded to a square": [False, False],
        "JPEG at quality 50": [False, False],
        "gamma 0.7": [True, False],
        "gamma 1.4": [False, True],
    }


def test_padding_darkens_a_wide_film(tmp_path):
    """Half of what the model sees is black then."""
    wide = film(tmp_path, "wide", np.full((16, 32), 250))
    assert robustness.changed_answers(BrightnessRuntime(), [wide])["padded to a square"].tolist() == [True]


def test_lungs_are_painted_over_with_the_films_mean(tmp_path):
    """A film that is bright only in its lungs is answered by the rest, and by the mean where the lungs were."""
    pixels = np.full((32, 32), 20)
    pixels[:, :20] = 255
    mask = np.zeros((32, 32))
    mask[:, :20] = 255
    one = film(tmp_path, "film", pixels, mask=film(tmp_path, "mask", mask).path)
    runtime = BrightnessRuntime()
    whole = robustness.predicted_classes(runtime, read_pixels([one], runtime.manifest.input))
    assert (whole.tolist(), robustness.without_lungs(runtime, [one]).tolist()) == ([1], [1])
    pixels[:, :29] = 255
    mask[:, :29] = 255
    wide = film(tmp_path, "film", pixels, mask=film(tmp_path, "mask", mask).path)
    assert robustness.lung_mask(wide, InputSpec(height=32, width=32, channels=1, fit="crop")).mean() == 29 / 32


def test_only_the_rim_is_seen():
    """A bright frame keeps its border's brightness, and loses nearly all of it in the corners."""
    frame = np.full((1, 100, 100, 3), 255, np.uint8)
    assert robustness.only_rim(BrightnessRuntime(), frame, corners=False).tolist() == [1]
    assert robustness.only_rim(BrightnessRuntime(), frame, corners=True).tolist() == [0]


def test_attention_is_the_share_of_heat_in_the_lungs(tmp_path):
    """Brightness is heat in the double: bright left, lungs left, and all of the heat there."""
    pixels = np.zeros((32, 32))
    pixels[:, :16] = 255
    lungs = film(tmp_path, "lungs", pixels)
    attentive = film(tmp_path, "left", pixels + 0, mask=lungs.path)
    spread = film(tmp_path, "all", np.full((32, 32), 255), mask=lungs.path)

    class Bright(BrightnessRuntime):
        def _classes(self, images):
            return np.full(len(images), 2)

    found = robustness.lung_attention(Bright(manifest(fit="crop")), [attentive, spread])
    assert found[0].heat_inside == pytest.approx(1.0, abs=0.05)
    assert found[1].heat_inside == pytest.approx(0.5, abs=0.01)
    assert found[1].lungs == 0.5


def test_heat_inside_a_mask_is_counted_where_the_map_lies():
    """By hand: the mask is the left half; the map covers all, the left half, three quarters, or a margin as well."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 1
    even = np.ones((4, 4), np.float32)
    assert robustness.heat_inside(even, mask, (0.0, 0.0, 1.0, 1.0)) == 0.5
    assert robustness.heat_inside(even, mask, (0.0, 0.25, 0.5, 0.75)) == 1.0
    assert robustness.heat_inside(even, mask, (0.25, 0.0, 1.0, 1.0)) == pytest.approx(1 / 3, abs=0.01)
    assert robustness.heat_inside(even, mask, (-0.5, -0.5, 1.5, 1.5)) == 2 / 16
    hot = np.zeros((4, 4), np.float32)
    hot[1, 1] = 1
    assert robustness.heat_inside(hot, mask, (-0.5, -0.5, 1.5, 1.5)) == 1.0


def test_a_source_that_shows_is_found_and_one_that_does_not_is_not(tmp_path):
    """Half of the films are brighter: first by source, then regardless of it."""
    rng = np.random.default_rng(0)
    told, untold = [], []
    for i in range(60):
        level = 100 + 40 * (i % 2)
        pixels = (level + rng.normal(0, 5, (16, 16))).clip(0, 255)
        told.append(film(tmp_path, f"a{i}", pixels, source="ab"[i % 2], patient=str(i)))
        untold.append(film(tmp_path, f"b{i}", pixels, source="ab"[i // 2 % 2], patient=str(i)))
    runtime = BrightnessRuntime()
    pixels = read_pixels(told, runtime.manifest.input)
    assert robustness.source_recall(runtime, told, pixels)["bright"] > 0.95
    assert robustness.source_recall(runtime, untold, pixels)["bright"] < 0.7


def test_classes_of_one_source_are_left_out(tmp_path):
    """There is nothing to name."""
    films = read_films(write_table(tmp_path, patients=8, films_each=1))
    same = [Film(f.path, f.label, f.patient, "one") for f in films]
    runtime = BrightnessRuntime()
    assert robustness.source_recall(runtime, same, read_pixels(same, runtime.manifest.input)) == {}


def test_maps_lose_their_likeness_when_weights_are_randomised(entry_of):
    """From the top down; the first value is that of the last layer alone."""
    runtime = TensorFlowRuntime(entry_of(models.nested_once))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    curve = robustness.cascading_randomisation(runtime, pixels)
    assert [count for count, _ in curve] == [1, 2, 3]
    assert all(-1 <= likeness <= 1 for _, likeness in curve)
    assert min(likeness for _, likeness in curve) < 0.8


def test_out_of_distribution_samples_are_of_every_kind():
    """Pictures, pages, noise, and a film of another part of the body."""
    kinds = out_of_distribution_samples()
    assert {kind: len(pictures) > 0 for kind, pictures in kinds.items()} == dict.fromkeys(
        ("natural pictures", "text pages", "noise and flat greys", "leg film"), True
    )
    assert all(picture.image.mode in ("L", "RGB") for pictures in kinds.values() for picture in pictures)
