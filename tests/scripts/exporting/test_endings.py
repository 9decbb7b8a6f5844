"""What a classifier's outputs mean: found at whichever place its softmax or sigmoid has, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from scripts.errors import ExportError
from scripts.exporting.model_analysis import analyse_model
from tests import models


def image():
    return keras.Input((16, 16, 3))


def pooled(x):
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(x))
    return layers.GlobalAveragePooling2D()(x)


def ends_in(tail, loss=None):
    """A seeded classifier with this tail behind its pooled features."""
    start = image()
    model = models.randomised(keras.Model(start, tail(pooled(start))))
    if loss is not None:
        model.compile(loss=loss)
    return model


def explained(model, **options):
    """The dissection, and how far its two parts are from what the model itself gives."""
    found = analyse_model(model, **options)
    images = np.random.default_rng(7).integers(0, 256, (5, 16, 16, 3), np.uint8)
    logits = np.asarray(found.split.head(found.split.trunk(images.astype(np.float32))), np.float64)
    if found.ending.task == "multi_label":
        actual = 1 / (1 + np.exp(-logits))
    else:
        actual = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    own = np.asarray(model(images.astype(np.float32), training=False), np.float64).reshape(5, -1)
    return found, actual, own


@keras.saving.register_keras_serializable("tests")
class Own(layers.Layer):
    """A sigmoid that nobody can see from outside."""

    def call(self, inputs):
        return ops.sigmoid(inputs)


def dense(units, activation=None):
    return layers.Dense(units, activation)


FOUND = {
    "ops.sigmoid": (lambda x: ops.sigmoid(dense(1)(x)), "single_label"),
    "float32 behind a sigmoid": (
        lambda x: layers.Activation("linear", dtype="float32")(dense(1, "sigmoid")(x)),
        "single_label",
    ),
    "cast behind a sigmoid": (lambda x: ops.cast(dense(1, "sigmoid")(x), "float32"), "single_label"),
    "flatten behind a sigmoid": (lambda x: layers.Flatten()(dense(1, "sigmoid")(x)), "single_label"),
    "reshape behind a sigmoid": (lambda x: layers.Reshape((1,))(dense(1, "sigmoid")(x)), "single_label"),
    "dropout behind a sigmoid": (lambda x: layers.Dropout(0.5)(dense(1, "sigmoid")(x)), "single_label"),
    "ops.softmax": (lambda x: ops.softmax(dense(3)(x)), "single_label"),
    "activations.softmax": (lambda x: keras.activations.softmax(dense(3)(x)), "single_label"),
    "reshape behind a softmax": (lambda x: layers.Reshape((3,))(dense(3, "softmax")(x)), "single_label"),
    "cast behind a softmax": (lambda x: ops.cast(layers.Softmax()(dense(3)(x)), "float32"), "single_label"),
    "a temperature before a softmax": (lambda x: layers.Softmax()(dense(3)(x) / 2.0), "single_label"),
    "fourteen sigmoids": (dense(14, "sigmoid"), "multi_label"),
    "two sigmoids": (lambda x: layers.Activation("sigmoid")(dense(2)(x)), "multi_label"),
    "ops.sigmoid of several": (lambda x: ops.sigmoid(dense(4)(x)), "multi_label"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_a_softmax_or_sigmoid_is_found_wherever_it_is(kind):
    """The logits are those before it, and the probabilities the model's own."""
    tail, task = FOUND[kind]
    found, actual, own = explained(ends_in(tail))
    assert found.ending.task == task
    np.testing.assert_allclose(actual[:, -own.shape[1] :], own, atol=1e-6)
    np.testing.assert_allclose(found.reference(np.zeros((1, 16, 16, 3), np.uint8)).shape, (1, found.ending.classes))


HIDDEN = {
    "an own layer": lambda x: Own()(dense(1)(x)),
    "an own layer over several": lambda x: Own()(dense(3)(x)),
    "clipped": lambda x: ops.clip(dense(1, "sigmoid")(x), 0.01, 0.99),
    "rescaled": lambda x: layers.Rescaling(0.98, 0.01)(dense(1, "sigmoid")(x)),
    "an average of two heads": lambda x: layers.Average()([dense(1, "sigmoid")(x), dense(1, "sigmoid")(x)]),
    "an average of two softmaxes": lambda x: layers.Average()([dense(3, "softmax")(x), dense(3, "softmax")(x)]),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_looks_like_probabilities_is_never_taken_for_logits(kind):
    """It is refused with the flag that helps; with it the probabilities are the model's own."""
    model = ends_in(HIDDEN[kind])
    with pytest.raises(ExportError, match="--outputs logits or --outputs probabilities"):
        analyse_model(model)
    _, actual, own = explained(model, outputs="probabilities")
    np.testing.assert_allclose(actual[:, -own.shape[1] :], own, atol=1e-6)


def test_a_convolution_with_a_sigmoid_that_is_pooled_is_told():
    """Its average is a probability, not a logit."""
    start = image()
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(start))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1, activation="sigmoid")(x))
    model = models.randomised(keras.Model(start, x))
    with pytest.raises(ExportError, match="--outputs"):
        analyse_model(model)


BY_LOSS = {
    "multi-label from logits": (14, keras.losses.BinaryCrossentropy(from_logits=True), "multi_label"),
    "one unit from logits": (1, keras.losses.BinaryCrossentropy(from_logits=True), "single_label"),
    "single-label from logits": (3, keras.losses.SparseCategoricalCrossentropy(from_logits=True), "single_label"),
}


@pytest.mark.parametrize("kind", BY_LOSS)
def test_the_compiled_loss_says_what_logits_are(kind):
    """Independent labels are never turned into a softmax."""
    units, loss, task = BY_LOSS[kind]
    found, actual, own = explained(ends_in(dense(units), loss))
    expected = found.ending.probabilities(own)
    assert found.ending.task == task
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanAbsoluteError(), "huber"])
def test_a_regression_is_refused_unless_its_outputs_are_called_logits(units, loss):
    """With the reason."""
    model = ends_in(dense(units), loss)
    with pytest.raises(ExportError, match=r"regression.*--outputs logits"):
        analyse_model(model)
    assert analyse_model(model, outputs="logits").ending.task == "single_label"


def test_an_output_beyond_any_probability_is_no_logit():
    """An age, from a model that was saved without its loss."""
    with pytest.raises(ExportError, match=r"too far from 0 for a logit.*--outputs logits"):
        analyse_model(ends_in(lambda x: layers.Rescaling(1.0, 40.0)(dense(1)(x))))


def test_scores_whose_loss_takes_them_for_probabilities_are_refused():
    """The file contradicts itself."""
    model = ends_in(lambda x: layers.Rescaling(1.0, -3.0)(dense(3)(x)), "categorical_crossentropy")
    with pytest.raises(ExportError, match="expects probabilities"):
        analyse_model(model)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (dense(3, "relu"), "relu"),
        (dense(1, "tanh"), "tanh"),
        (lambda x: layers.Reshape((2, 3))(dense(6, "softmax")(x)), "shape"),
    ],
)
def test_other_endings_are_refused(tail, reason):
    """By their name."""
    with pytest.raises(ExportError, match=reason):
        analyse_model(ends_in(tail))


def test_thresholds_say_that_several_classes_can_hold():
    """Without a loss, logits of several units could be either."""
    model = ends_in(lambda x: layers.Rescaling(1.0, -2.0)(dense(4)(x)))
    assert analyse_model(model).ending.task == "single_label"
    assert analyse_model(model, several=True).ending.task == "multi_label"
    with pytest.raises(ExportError, match="--thresholds"):
        analyse_model(ends_in(dense(3, "softmax")), several=True)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_head_computes_in_single_precision(policy):
    """Gradients that underflow in half precision do not; the model itself is left as it was."""
    with_policy = keras.dtype_policies.DTypePolicy(policy)
    start = image()
    x = layers.Conv2D(6, 3, strides=2, activation="relu", dtype=with_policy)(layers.Rescaling(1 / 255)(start))
    x = layers.Rescaling(1e-5, dtype=with_policy)(layers.GlobalAveragePooling2D(dtype=with_policy)(x))
    x = layers.Rescaling(1e-4, dtype=with_policy)(layers.Dense(8, dtype=with_policy)(x))
    model = models.randomised(keras.Model(start, layers.Dense(3, "softmax", dtype="float32")(x)))
    found, actual, own = explained(model)
    np.testing.assert_allclose(actual, own, atol=found.tolerance)
    assert 1e-4 < found.tolerance < 0.05
    assert model.layers[2].compute_dtype == policy.removeprefix("mixed_")
    features = ops.convert_to_tensor(np.ones((1, *found.split.head.input_shape[1:]), np.float32))
    with tf.GradientTape() as tape:
        tape.watch(features)
        score = found.split.head(features)[:, 0]
    assert np.abs(tape.gradient(score, features).numpy()).max() > 0
