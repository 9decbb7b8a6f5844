"""Evidence to heatmap, against values computed by hand."""

import numpy as np
import pytest

from app.errors import QuestionError, UnknownNameError
from app.explain.cams import (
    METHODS,
    cam_method,
    check_answerable,
    eigencam,
    gradcam,
    gradcam_plus_plus,
    hirescam,
    layercam,
    normalise,
    normalise_together,
    raw_maps,
    xgradcam,
)
from tests import models

# Two channels on a 2 x 2 grid.
FEATURES = np.array([[[1, 0], [2, 1]], [[0, 3], [1, 1]]], np.float32)
GRADIENTS = np.array([[[1, -1], [1, 0]], [[2, 0], [0, -1]]], np.float32)


def test_gradcam_weighs_each_channel_by_its_mean_gradient():
    """Mean gradients are (1, -½), so the map is A_0 - ½·A_1."""
    assert gradcam(FEATURES, GRADIENTS).tolist() == [[1.0, 1.5], [-1.5, 0.5]]


def test_normalising_drops_the_negative_and_divides_by_the_maximum():
    """Not min-max: 0.5 stays a third of 1.5."""
    heatmap = normalise(np.array([[1.0, 1.5], [-1.5, 0.5]], np.float32))
    np.testing.assert_allclose(heatmap.values, [[2 / 3, 1], [0, 1 / 3]], rtol=1e-6)
    assert heatmap.raw_max == 1.5
    assert not heatmap.empty


@pytest.mark.parametrize("raw", [np.zeros((2, 3)), np.full((2, 3), -1.0)])
def test_a_map_with_no_positive_value_is_empty(raw):
    """All zeros, not NaN, and it says so."""
    heatmap = normalise(raw.astype(np.float32))
    assert heatmap.empty
    assert heatmap.raw_max == 0.0
    assert heatmap.values.tolist() == np.zeros((2, 3)).tolist()


def test_the_smallest_positive_value_is_a_map():
    """Subnormal numbers neither overflow nor vanish."""
    heatmap = normalise(np.array([[0.0, 1e-45]], np.float32))
    assert heatmap.values.tolist() == [[0.0, 1.0]]


def test_evidence_that_is_not_finite_is_an_error():
    """A NaN must not be drawn as if it meant something."""
    with pytest.raises(FloatingPointError, match="not finite"):
        normalise(np.array([[np.nan, 1.0]], np.float32))


def test_an_unknown_method_is_refused_with_those_that_there_are():
    """The registry is the one place that knows."""
    with pytest.raises(UnknownNameError, match="gradcam") as caught:
        cam_method("occlusion")
    assert caught.value.valid == tuple(METHODS)


CLASS_METHODS = [name for name, method in METHODS.items() if method.class_specific]


@pytest.fixture(autouse=True)
def _numpy_faults_are_errors():
    """No method divides by zero, makes a NaN or overflows on its way to an answer."""
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        yield


def evidence(seed, shape=(5, 6, 7)):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 2, shape).astype(np.float32), rng.normal(0, 1, shape).astype(np.float32)


def test_hirescam_multiplies_cell_by_cell():
    """By hand: Σ_k g_k·A_k in each cell."""
    assert hirescam(FEATURES, GRADIENTS).tolist() == [[1.0, 2.0], [0.0, -1.0]]


def test_xgradcam_weighs_a_channel_by_its_share_of_the_score():
    """By hand: Σg·A/ΣA is (1 + 2 + 0 + 0)/4 and (0 + 0 + 0 - 1)/5."""
    np.testing.assert_allclose(xgradcam(FEATURES, GRADIENTS), FEATURES @ [0.75, -0.2], rtol=1e-6)


def test_layercam_drops_negative_gradients_cell_by_cell():
    """By hand: of the second channel nothing is left."""
    assert layercam(FEATURES, GRADIENTS).tolist() == [[1.0, 2.0], [0.0, 0.0]]


def direct_gradcam_plus_plus(features, gradients):
    """The paper's equations 10 and 5 in loops, Y = exp(S) with all its derivatives written out; S = 0."""
    height, width, depth = features.shape
    raw = np.zeros((height, width))
    for k in range(depth):
        total = sum(float(features[a, b, k]) for a in range(height) for b in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                first = float(gradients[i, j, k])
                second, third = first**2, first**3
                denominator = 2 * second + total * third
                weight += (second / denominator if denominator else 0.0) * max(first, 0.0)
        raw += weight * features[..., k]
    return raw


@pytest.mark.parametrize("seed", range(5))
def test_gradcam_plus_plus_equals_the_papers_formula_evaluated_directly(seed):
    """Loop by loop, with channels that have no gradient and cells that have none."""
    features, gradients = evidence(seed)
    gradients[..., 2] = 0
    gradients[0] = 0
    expected = direct_gradcam_plus_plus(features, gradients)
    np.testing.assert_allclose(gradcam_plus_plus(features, gradients), expected, rtol=1e-5)


def test_a_denominator_of_zero_counts_as_one():
    """g = 1 over features that sum to -2: 2g² + g³·ΣA is 0, so a = g² = 1."""
    features = np.array([[[-3.0], [1.0]]], np.float32)
    assert gradcam_plus_plus(features, np.array([[[1.0], [0.0]]], np.float32)).tolist() == [[-3.0, 1.0]]


def test_over_a_global_average_four_methods_are_one(runtime_of):
    """conv, pool, dense: Grad-CAM = HiResCAM = XGrad-CAM = CAM/Z, for every class, on a model that was exported."""
    runtime = runtime_of(models.gap_linear)
    images = np.random.default_rng(0).integers(0, 256, (3, models.SIDE, models.SIDE, 3), np.uint8)
    found = runtime.evidence(images, np.tile(np.eye(3, dtype=np.float32), (3, 1, 1)))
    kernel = models.gap_linear().get_layer("top").get_weights()[0]
    z = found.features.shape[1] * found.features.shape[2]
    for features, gradients in zip(found.features, found.gradients, strict=True):
        cam = np.moveaxis(features @ kernel, -1, 0) / z  # Zhou et al., CVPR 2016, over Z
        for method in ("gradcam", "hirescam", "xgradcam"):
            np.testing.assert_allclose(raw_maps(METHODS[method], features, gradients), cam, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_hirescam_and_xgradcam_sum_to_the_same(seed):
    """Before the ReLU both share out Σ g·A."""
    features, gradients = evidence(seed)
    total = float((features.astype(np.float64) * gradients).sum())
    assert hirescam(features, gradients).sum() == pytest.approx(total, rel=1e-4)
    assert xgradcam(features, gradients).sum() == pytest.approx(total, rel=1e-4)


def test_hirescam_sums_to_the_logit_of_a_bias_free_head(runtime_of):
    """A head of ReLUs without biases is homogeneous, so Σ g·A is the score itself (Euler)."""
    runtime = runtime_of(models.bias_free_head)
    images = np.random.default_rng(1).integers(0, 256, (4, models.SIDE, models.SIDE, 3), np.uint8)
    found = runtime.evidence(images, np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)))
    for features, gradients, logits in zip(found.features, found.gradients, found.logits, strict=True):
        sums = raw_maps(METHODS["hirescam"], features, gradients).sum(axis=(1, 2))
        np.testing.assert_allclose(sums, logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 11), (6, 5, 3)])
def test_eigencam_is_the_first_component_with_its_sign_fixed(shape):
    """As the plain SVD has it, up to the sign, which the features' sum decides; the gradient changes nothing."""
    features, gradients = evidence(3, shape)
    left, values, _ = np.linalg.svd(features.reshape(-1, shape[-1]).astype(np.float64), full_matrices=False)
    expected = np.abs(left[:, 0] * values[0]).reshape(shape[:2])  # of one sign, as the features are
    np.testing.assert_allclose(eigencam(features, gradients), expected, rtol=1e-5)
    assert (eigencam(-features, gradients) < 0).all()
    signed = features - 0.7
    found = eigencam(signed, gradients)
    assert (found * signed.sum(axis=-1)).sum() > 0
    np.testing.assert_array_equal(found, eigencam(signed, -gradients))


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "xgradcam"])
def test_why_x_and_not_y_is_the_negative_of_why_y_and_not_x(name, runtime_of):
    """Before the ReLU; and what speaks against a class is the negative of what speaks for it."""
    runtime = runtime_of(models.two_layer_head)
    images = np.random.default_rng(2).integers(0, 256, (1, models.SIDE, models.SIDE, 3), np.uint8)
    targets = np.array([[[1, -1, 0], [-1, 1, 0], [0, 0, 1], [0, 0, -1]]], np.float32)
    found = runtime.evidence(images, targets)
    forward, backward, pro, contra = raw_maps(METHODS[name], found.features[0], found.gradients[0])
    np.testing.assert_allclose(forward, -backward, atol=1e-6)
    np.testing.assert_allclose(pro, -contra, atol=1e-6)
    assert np.abs(forward).max() > 0


@pytest.mark.parametrize("position", [(row, column) for row in (0, 12, 24) for column in (0, 12, 24)])
@pytest.mark.parametrize("name", CLASS_METHODS)
def test_every_class_method_finds_the_planted_square(name, position, runtime_of):
    """All of the heat for `bright` lies on the square; the map of the class that is absent has none there."""
    runtime = runtime_of(models.planted_square)
    row, column = position
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, row : row + 8, column : column + 8] = 255
    found = runtime.evidence(image, np.eye(2, dtype=np.float32)[None])
    absent, bright = (normalise(raw) for raw in raw_maps(METHODS[name], found.features[0], found.gradients[0]))
    square = np.zeros((8, 8), bool)
    square[row // 4 : row // 4 + 2, column // 4 : column // 4 + 2] = True
    assert (bright.values[square] == 1).all()
    assert (bright.values[~square] == 0).all()
    assert absent.empty


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("features", "gradients"),
    [
        (np.zeros((3, 4, 2)), np.zeros((3, 4, 2))),
        (np.ones((3, 4, 2)), np.zeros((3, 4, 2))),
        (np.zeros((3, 4, 2)), np.ones((3, 4, 2))),
        (np.ones((1, 1, 1)), -np.ones((1, 1, 1))),
        (np.tile([[[1.0], [-1.0]]], (3, 2, 2)), np.ones((3, 4, 2))),
    ],
    ids=["nothing", "no gradient", "no features", "one cell", "features that cancel"],
)
def test_degenerate_evidence_has_a_finite_map(name, features, gradients):
    """No division by zero, no NaN."""
    raw = METHODS[name](features.astype(np.float32), gradients.astype(np.float32))
    assert raw.shape == features.shape[:2]
    assert raw.dtype == np.float32
    assert np.isfinite(normalise(raw).values).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_a_map_does_not_depend_on_the_scale_of_its_evidence(name, scale):
    """Squares and cubes of gradients stay within what a double holds."""
    features, gradients = evidence(4)
    if name == "gradcam++":  # its weights depend on g·ΣA, so there the one grows as the other shrinks
        features /= np.float32(scale)
        gradients *= np.float32(scale)
        expected = normalise(METHODS[name](*evidence(4))).values
    else:
        expected = normalise(METHODS[name](features, gradients)).values
        features *= np.float32(scale)
        gradients *= np.float32(scale)
    np.testing.assert_allclose(normalise(METHODS[name](features, gradients)).values, expected, rtol=1e-4, atol=1e-6)


def test_a_map_beyond_single_precision_is_refused():
    """Infinite is no heat."""
    huge = np.full((2, 2, 1), 1e30, np.float32)
    with pytest.raises(FloatingPointError, match="overflow"):
        normalise(hirescam(huge, huge))


def test_maps_of_all_classes_share_one_scale():
    """The strongest cell of all maps is 1; a weaker class stays weaker."""
    series = normalise_together(np.array([[[2.0, -1.0]], [[0.5, 4.0]], [[-3.0, 0.0]]], np.float32))
    assert series.values.tolist() == [[[0.5, 0.0]], [[0.125, 1.0]], [[0.0, 0.0]]]
    assert (series.raw_max, series.empty) == (4.0, False)


def test_maps_of_all_classes_without_evidence_are_empty():
    """Of one class as of several."""
    series = normalise_together(np.full((1, 2, 2), -1.0, np.float32))
    assert (series.values.tolist(), series.empty) == ([[[0, 0], [0, 0]]], True)


@pytest.mark.parametrize(
    "question", [{"class_name": "a"}, {"against": "a"}, {"counterfactual": True}, {"all_classes": True}]
)
def test_a_method_without_a_class_refuses_a_question_about_one(question):
    """It says what it can't answer, and which methods can; without the question it answers."""
    parameter = {"class_name": "class"}.get(*question, *question)
    with pytest.raises(QuestionError, match=f"'{parameter}'.*gradcam"):
        check_answerable("eigencam", **question)
    check_answerable("eigencam")
    for name in CLASS_METHODS:
        check_answerable(name, **question)
