"""Is a heatmap true to the model? Asked of maps whose truth is known."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest, wilcoxon

from app.explain.cams import gradcam, normalise
from app.explain.faithfulness import cost, judge, plan
from tests import models

STEPS = 8


def quarter(value=200):
    """8 x 8 pixels over a grid of 2 x 2, of which the second cell is hottest."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, 4:] = value
    return pixels, np.array([[0.5, 1.0], [0.0, 0.2]], np.float32)


def test_the_cost_is_known_beforehand():
    """And is what is planned, and what is given out."""
    pixels, heat = quarter()
    for steps, maps in ((2, 19), (5, 30)):
        planned = plan(pixels, heat, steps=steps, random_maps=maps)
        assert cost(steps, maps) == len(planned) == len(list(planned.images()))
    assert cost(8, 19) == 302


def test_cells_are_hidden_and_revealed_from_the_hottest_on():
    """At half-pixel centres the four cells are the four quarters of the image."""
    pixels, heat = quarter()
    planned = plan(pixels, heat, steps=4, random_maps=19)
    images = list(planned.images())
    blurred = planned.baseline
    np.testing.assert_array_equal(images[0], pixels)
    np.testing.assert_array_equal(images[1], blurred)
    first = pixels.copy()
    first[:4, 4:] = blurred[:4, 4:]
    np.testing.assert_array_equal(images[2], first)
    third = blurred.copy()
    third[4:, :4] = pixels[4:, :4]  # the coldest is the last to go
    np.testing.assert_array_equal(images[4], third)
    revealed = blurred.copy()
    revealed[:4, 4:] = pixels[:4, 4:]
    np.testing.assert_array_equal(images[5], revealed)


@pytest.mark.parametrize("shape", [(7, 10, 3), (9, 9, 1), (14, 5, 3)])
def test_cells_share_the_pixels_out(shape):
    """Whatever the sizes, at every step each pixel is the image's or the baseline's, and more of them with each."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    heat = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    planned = plan(pixels, heat, steps=6, random_maps=19)
    hidden = [~(image == pixels).all(axis=-1) for image in list(planned.images())[2:7]]
    for before, after in itertools.pairwise(hidden):
        assert not (before & ~after).any()
    assert planned.baseline.shape == shape
    areas = np.bincount(planned._spread(np.arange(12).reshape(3, 4)).ravel(), minlength=12)
    assert areas.sum() == shape[0] * shape[1]
    assert areas.min() > 0


def test_the_baseline_is_a_blur_as_wide_as_a_cell():
    """Stated in the network's pixels; a flat image is its own blur."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    heat = np.eye(4, 8, dtype=np.float32)
    planned = plan(pixels, heat, steps=2, random_maps=19)
    assert planned.sigma == 8.0
    assert planned.baseline.std() < pixels.std() / 5
    flat = np.full((32, 32, 1), 77, np.uint8)
    np.testing.assert_array_equal(plan(flat, heat, steps=2, random_maps=19).baseline, flat)


def test_the_heat_shows_the_image():
    """Where it is 1 the image, where it is 0 the baseline."""
    pixels, _ = quarter()
    heat = np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)
    shown = list(plan(pixels, heat, steps=2, random_maps=19).images())[4]
    blurred = plan(pixels, heat, steps=2, random_maps=19).baseline
    np.testing.assert_array_equal(shown[:2], pixels[:2])
    np.testing.assert_array_equal(shown[6:], blurred[6:])


def test_the_same_question_gives_the_same_plan():
    """Another seed gives other random maps; ties are broken, not left to the sort."""
    pixels, _ = quarter()
    heat = np.array([[1, 1, 0], [0, 1, 0]], np.float32)
    first, second, other = (plan(pixels, heat, steps=3, random_maps=19, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(np.stack(list(first.images())), np.stack(list(second.images())))
    assert not np.array_equal(first.heat, other.heat)
    assert sorted(first.ranks[0].ravel().tolist()) == list(range(6))


def test_random_maps_are_the_map_somewhere_else():
    """The same heat, in the same neighbourhood, with the same order."""
    pixels, _ = quarter()
    heat = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    planned = plan(pixels, heat, steps=3, random_maps=40)
    for moved, ranks in zip(planned.heat, planned.ranks, strict=True):
        np.testing.assert_array_equal(np.sort(moved.ravel()), np.sort(heat.ravel()))
        assert (moved.ravel()[np.argsort(ranks.ravel())] == np.sort(heat.ravel())[::-1]).all()
    assert len(np.unique(planned.heat.reshape(41, -1), axis=0)) > 20


MIDDLE = (0.25, 0.25, 0.75, 0.75)


def test_only_the_part_that_the_map_covers_changes():
    """Its cells are hidden where they are: of 2 x 2 cells over the middle of 8 x 8 pixels, each is 2 x 2 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    _, heat = quarter()
    planned = plan(pixels, heat, steps=4, random_maps=19, box=MIDDLE)
    assert planned.sigma == 2.0
    outside = np.ones((8, 8), bool)
    outside[2:6, 2:6] = False
    images = np.stack(list(planned.images()))
    assert (images[:, outside] == pixels[outside]).all()
    first, revealed, shown = (images[2] != pixels), (images[5] == pixels), images[8]
    assert np.argwhere(first.any(axis=-1)).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    assert np.argwhere(revealed.all(axis=-1) & ~outside).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    assert (shown[2, 5] == pixels[2, 5]).all()  # the hottest cell's corner shows the image, the coldest's the blur
    assert (shown[5, 2] == planned.baseline[5, 2]).all()


def test_cells_beyond_the_image_are_not_judged():
    """A network that pads has them; nothing can be hidden there, and no random map may lose its heat there."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    heat = np.random.default_rng(1).random((4, 4)).astype(np.float32)
    padded = plan(pixels, heat, steps=4, random_maps=19, box=(-0.5, -0.5, 1.5, 1.5))
    inner = plan(pixels, heat[1:3, 1:3], steps=4, random_maps=19)
    assert padded.heat.shape == (20, 2, 2)
    np.testing.assert_array_equal(np.stack(list(padded.images())), np.stack(list(inner.images())))
    only_outside = heat.copy()
    only_outside[1:3, 1:3] = 0
    with pytest.raises(ValueError, match="empty"):
        plan(pixels, only_outside, steps=4, random_maps=19, box=(-0.5, -0.5, 1.5, 1.5))


def test_a_box_between_pixels_shares_them_out():
    """Every pixel whose centre is inside belongs to one cell, and the others to none."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)
    heat = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    box = (0.13, 0.21, 0.87, 0.93)
    hidden = list(plan(pixels, heat, steps=2, random_maps=1, box=box).images())[1] != pixels
    rows, columns = np.indices((11, 13)) + 0.5
    inside = (rows > 0.21 * 11) & (rows < 0.93 * 11) & (columns > 0.13 * 13) & (columns < 0.87 * 13)
    np.testing.assert_array_equal(hidden.any(axis=-1), inside)


def answers(planned, figures):
    """Answers made up: `figures(map)` gives deletion, insertion and shown of each map."""
    rows = [0.8, 0.2]
    for number in range(len(planned.ranks)):
        deletion, insertion, shown = figures(number)
        rows += [*deletion, *insertion, shown]
    return rows


def test_the_areas_are_trapezoids():
    """By hand: 0.8, 0.4, 0.2 over 0, ½, 1; the drop is (0.8 - 0.6)/0.8."""
    pixels, heat = quarter()
    planned = plan(pixels, heat, steps=2, random_maps=19)
    found = judge(planned, answers(planned, lambda n: ([0.7], [0.3], 0.9) if n else ([0.4], [0.6], 0.6)))
    assert found.fractions == (0.0, 0.5, 1.0)
    assert found.heatmap.deletion == (0.8, 0.4, 0.2)
    assert found.heatmap.insertion == (0.2, 0.6, 0.8)
    assert found.heatmap.deletion_area == pytest.approx(0.45)
    assert found.heatmap.insertion_area == pytest.approx(0.55)
    assert found.heatmap.average_drop == pytest.approx(0.25)
    assert found.heatmap.average_increase == 0.0
    assert (found.random.average_drop, found.random.average_increase) == (0.0, 1.0)
    assert found.random.score == pytest.approx(-0.2)
    assert found.random_deviation == pytest.approx(0.0)
    assert (found.p_better, found.p_worse, found.random_maps) == (0.05, 1.0, 19)
    assert found.better_than_random
    assert not found.worse_than_random


def test_one_random_map_that_is_as_good_is_enough_to_doubt():
    """2 of 20 scores are as high: p is 0.1."""
    pixels, heat = quarter()
    planned = plan(pixels, heat, steps=2, random_maps=19)
    found = judge(planned, answers(planned, lambda n: ([0.7], [0.3], 0.9) if n > 1 else ([0.4], [0.6], 0.6)))
    assert found.p_better == 0.1
    assert not found.better_than_random


def test_what_can_not_be_judged_is_refused():
    """An empty map, too few steps or maps, answers to other images."""
    pixels, heat = quarter()
    with pytest.raises(ValueError, match="empty"):
        plan(pixels, heat * 0, steps=4, random_maps=19)
    for steps, maps in ((1, 19), (4, 0)):
        with pytest.raises(ValueError, match="at least"):
            plan(pixels, heat, steps=steps, random_maps=maps)
    with pytest.raises(ValueError, match="were planned"):
        judge(plan(pixels, heat, steps=2, random_maps=19), [0.5])


def test_one_class_and_one_cell_are_judged_without_faults():
    """Nothing changes, so nothing is better than random."""
    pixels, _ = quarter()
    with np.errstate(all="raise"):
        planned = plan(pixels, np.ones((1, 1), np.float32), steps=4, random_maps=19)
        found = judge(planned, np.ones(len(planned)))
        none = judge(planned, np.zeros(len(planned)))
    assert (found.better_than_random, found.worse_than_random) == (False, False)
    assert none.heatmap.average_drop == 0.0


def planted(seed):
    """Noise with a bright square somewhere, `[32, 32, 3]`."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
    row, column = rng.integers(0, 24, 2)
    image[row : row + 8, column : column + 8] = 255
    return image


def smooth(seed):
    """A random map without edges, as heatmaps are."""
    coarse = np.random.default_rng(seed).random((3, 3)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((8, 8), Image.Resampling.BICUBIC)).clip(0.01, 1)


@pytest.fixture(scope="module")
def judged(runtime_of):
    """The true map, its inverse, noise and a smooth random map on 40 planted images: lists of `Faithfulness`."""
    runtime = runtime_of(models.planted_square)

    def one(image, heat, seed):
        planned = plan(image, heat, steps=STEPS, random_maps=19, seed=seed)
        return judge(planned, runtime.predict(np.stack(list(planned.images()))).probabilities[:, 1])

    found = {"true": [], "inverse": [], "noise": [], "smooth": []}
    for seed in range(40):
        image = planted(seed)
        evidence = runtime.evidence(image[None], np.array([[[0, 1]]], np.float32))
        heat = normalise(gradcam(evidence.features[0], evidence.gradients[0, 0])).values
        noise = np.random.default_rng(seed + 1000).random((8, 8)).astype(np.float32)
        for name, values in (("true", heat), ("inverse", 1 - heat), ("noise", noise), ("smooth", smooth(seed))):
            found[name].append(one(image, values, seed))
    return found


def scores(found):
    return [one.heatmap.score for one in found]


def test_the_true_map_beats_random_and_its_own_inverse(judged):
    """Paired over 40 planted images; most are called better, the rest where a moved map hit the square by chance."""
    true = scores(judged["true"])
    random = [one.random.score for one in judged["true"]]
    assert wilcoxon(true, random, alternative="greater").pvalue < 0.01
    assert wilcoxon(true, scores(judged["inverse"]), alternative="greater").pvalue < 0.01
    called = [one.better_than_random for one in judged["true"]]
    assert binomtest(sum(called), len(called), 0.05, alternative="greater").pvalue < 1e-6
    assert not any(one.worse_than_random for one in judged["true"])


def test_a_random_map_does_not_beat_random(judged):
    """Noise and smooth maps alike are called better no more often than the level says."""
    for kind in ("noise", "smooth"):
        lucky = sum(one.better_than_random for one in judged[kind])
        assert binomtest(lucky, len(judged[kind]), 0.05, alternative="greater").pvalue > 0.01


def test_an_inverted_map_is_called_worse(judged):
    """And never better."""
    called = [one.worse_than_random for one in judged["inverse"]]
    assert binomtest(sum(called), len(called), 0.05, alternative="greater").pvalue < 1e-6
    assert not any(one.better_than_random for one in judged["inverse"])


def test_the_true_map_loses_less_when_only_its_heat_is_shown(judged):
    """Average drop, against random maps."""
    true = [one.heatmap.average_drop for one in judged["true"]]
    random = [one.random.average_drop for one in judged["true"]]
    assert wilcoxon(true, random, alternative="less").pvalue < 0.01


@pytest.mark.parametrize(("build", "side"), [(models.cropped_square, 16), (models.padded_square, 32)])
def test_the_map_of_a_network_that_crops_or_pads_is_judged_where_it_lies(runtime_of, build, side):
    """Really exported: hiding the hottest cell of its map hides the planted square, and nothing beyond the crop."""
    runtime = runtime_of(build)
    box = runtime.manifest.feature_layer.box
    margin = (32 - side) // 2
    placed, unplaced = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        row, column = margin + 4 * rng.integers(0, side // 4, 2)
        image[row : row + 4, column : column + 4] = 255
        evidence = runtime.evidence(image[None], np.array([[[0, 1]]], np.float32))
        heat = normalise(gradcam(evidence.features[0], evidence.gradients[0, 0])).values
        planned = plan(image, heat, steps=8, random_maps=19, seed=seed, box=box)
        images = np.stack(list(planned.images()))
        changed = (images != image).any(axis=(0, 3))
        assert not np.delete(changed, range(margin, margin + side), axis=0).any()
        assert not np.delete(changed, range(margin, margin + side), axis=1).any()
        assert (images[2][row : row + 4, column : column + 4] != 255).any()  # the first cells to be hidden
        placed.append(judge(planned, runtime.predict(images).probabilities[:, 1]))
        over_all = plan(image, heat, steps=8, random_maps=19, seed=seed)
        images = np.stack(list(over_all.images()))
        unplaced.append(judge(over_all, runtime.predict(images).probabilities[:, 1]))
    assert wilcoxon(scores(placed), [one.random.score for one in placed], alternative="greater").pvalue < 1e-4
    assert min(scores(placed)) > 0 > min(scores(unplaced))
