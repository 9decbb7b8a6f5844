"""Two exported models asked about the same films."""

import numpy as np
import pytest
from PIL import Image

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.imaging.geometry import Region
from scripts.comparing.answers import answer_films
from scripts.datasets.films import Film
from scripts.errors import CompareError
from tests import models
from tests.doubles import BrightnessRuntime, manifest


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """20 films of 64 x 64 pixels: each with a yellow square, red and green, where a model may look."""
    folder = tmp_path_factory.mktemp("films")
    found = []
    for number in range(20):
        pixels = np.zeros((64, 64, 3), np.uint8)
        left, top = 2 * number % 24, 8
        pixels[top : top + 32, left : left + 32, :2] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        found.append(Film(folder / f"{number}.png", "bright"))
    return found


@pytest.fixture(scope="module")
def answers(films, served_entry, runtime_of):
    """A model that sees the whole film, and one that looks only at what is red."""
    planted = TensorFlowRuntime(served_entry.parents[1] / "planted" / "4")
    return answer_films(planted, runtime_of(models.red_organ), films)


def test_each_heatmap_lies_where_its_version_looked(answers):
    """The box of each image by itself, also across batches."""
    for number, (whole, part) in enumerate(zip(answers.first.heatmaps, answers.second.heatmaps, strict=True)):
        assert whole.region == Region(0, 0, 64, 64)
        left = 2 * number % 24
        edges = (part.region.left, part.region.top, part.region.right, part.region.bottom)
        assert edges == pytest.approx((left, 8, left + 32, 40))


def test_heatmaps_of_another_grid_and_region_agree_where_both_see_the_same(answers):
    """Both find the square; with another film's box, the second version's heat would lie elsewhere."""
    assert answers.first.top.tolist() == answers.second.top.tolist() == [1] * 20
    one, other = answers.grids(0)
    assert len(one) == len(other) == 64  # cells of 8 pixels, those of the first version
    agreed = answers.agreement(0)
    assert agreed.hottest_overlap > 0.7
    assert agreed.shared_heat > 0.7


def test_both_explain_the_first_versions_class_and_the_second_also_its_own(tmp_path):
    """The last class of the double is that of light; one version calls it `bright`, the other `middle`."""
    Image.new("L", (20, 20), 255).save(tmp_path / "white.png")
    second = BrightnessRuntime(manifest().model_copy(update={"classes": ("dark", "bright", "middle")}))
    answers = answer_films(BrightnessRuntime(), second, [Film(tmp_path / "white.png", "bright")])
    assert answers.classes == ("dark", "middle", "bright")
    np.testing.assert_allclose(answers.first.probabilities[0], [0.1, 0.1, 0.8])
    np.testing.assert_allclose(answers.second.probabilities[0], [0.1, 0.8, 0.1])
    # Light has evidence for the last class only, so the second version has none for `bright`.
    assert [answers.first.heatmaps[0].values.any(), answers.second.heatmaps[0].values.any()] == [True, False]
    assert answers.second.own[0].values.all()


def test_models_of_different_classes_are_not_asked(films):
    """The message says which classes only one of them has."""
    second = BrightnessRuntime(manifest().model_copy(update={"classes": ("dark", "middle", "dazzling")}))
    with pytest.raises(CompareError, match="only double/3 has bright and only double/3 has dazzling"):
        answer_films(BrightnessRuntime(), second, films[:1])
