"""Taking classifiers apart."""

import keras
import numpy as np
import pytest
from keras import layers

from scripts.errors import ExportError
from scripts.exporting.model_analysis import analyse_model
from tests import models


def stack(*parts):
    return keras.Sequential([keras.Input((16, 16, 3)), *parts])


@pytest.mark.parametrize("kind", models.PACKABLE)
def test_trunk_and_head_are_the_model(kind):
    """Nested or not, whatever it ends in; and the feature layer is the one that the rule says."""
    build, layer = models.PACKABLE[kind]
    model = build()
    found = analyse_model(model)
    split = found.split
    batch = np.random.default_rng(0).integers(0, 256, (3, *model.input_shape[1:])).astype(np.float32)
    logits = np.asarray(split.head(split.trunk(batch)), np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    outputs = np.asarray(model(batch), np.float64)
    if found.ending.outputs == "logits":
        np.testing.assert_allclose(logits, outputs, rtol=1e-5)
    else:
        np.testing.assert_allclose(probabilities[:, -outputs.shape[-1] :], outputs, atol=1e-6)
    assert split.layer == layer
    assert (found.region, found.warnings) == (None, ())


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (keras.applications.VGG16, "block5_conv3"),
        (keras.applications.MobileNetV2, "out_relu"),
        (keras.applications.DenseNet121, "relu"),
        (keras.applications.MobileNetV3Small, "activation"),
    ],
)
def test_the_default_layer_of_well_known_networks(build, layer):
    """Batch-norm and activation in, pooling not; a convolution on a 1 x 1 grid doesn't count."""
    split = analyse_model(build(weights=None, input_shape=(64, 64, 3), include_top=True, classes=3)).split
    assert split.layer.startswith(layer)
    assert split.trunk.output_shape[1] > 1


def test_a_layer_can_be_chosen_by_name_or_path():
    """The path where a name repeats."""
    assert analyse_model(models.nested_once(), layer="conv.1").split.layer == "conv.1"
    assert analyse_model(models.nested_once(), layer="back.bone/conv.1").split.trunk.output_shape == (None, 7, 7, 6)


def test_a_name_that_repeats_is_given_by_its_path():
    """In the manifest too."""
    model = models.repeated_names()
    assert analyse_model(model).split.layer == "second/conv"
    with pytest.raises(ExportError, match="ambiguous: conv, second/conv"):
        analyse_model(model, layer="conv")


def two_inputs():
    a, b = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    return keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 3)(a + b))))


def two_outputs():
    image = keras.Input((16, 16, 3))
    x = layers.Flatten()(layers.Conv2D(2, 3)(image))
    return keras.Model(image, [layers.Dense(2)(x), layers.Dense(2)(x)])


def two_branches():
    image = keras.Input((16, 16, 3))
    branches = [layers.GlobalAveragePooling2D()(layers.Conv2D(2, size)(image)) for size in (3, 5)]
    return keras.Model(image, layers.Dense(2)(layers.Concatenate()(branches)))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: stack(layers.Flatten(), layers.Dense(2)), "no convolution"),
        (two_inputs, "2 inputs"),
        (two_outputs, "2 outputs"),
        (two_branches, "branches"),
        (Subclassed, "no layer graph"),
        (lambda: stack(layers.Conv2D(2, 3)), "output has shape"),
        (lambda: stack(layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3, activation="relu")), "relu"),
        (lambda: keras.Sequential([keras.Input((9,)), layers.Dense(2)]), "input has shape"),
    ],
)
def test_what_can_not_be_split_is_refused_with_the_reason(build, reason):
    """Before anything is written."""
    with pytest.raises(ExportError, match=reason):
        analyse_model(build())


@pytest.mark.parametrize(("layer", "reason"), [("nope", r"no layer 'nope'.*back\.bone/relu\.2"), ("dense", "shape")])
def test_a_layer_that_can_not_be_explained_by_is_refused(layer, reason):
    """With those that could."""
    model = models.nested_once()
    name = model.layers[-1].name if layer == "dense" else layer
    with pytest.raises(ExportError, match=reason):
        analyse_model(model, layer=name)


def test_the_model_is_left_as_it_was():
    """Dissecting takes nothing from the model that it is given."""
    model = models.separate_activation()
    batch = np.ones((1, 16, 16, 3), np.float32)
    before = np.asarray(model(batch))
    found = analyse_model(model)
    np.asarray(found.split.head(found.split.trunk(batch)))
    assert (np.asarray(model(batch)) == before).all()
