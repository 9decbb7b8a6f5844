"""Files of Keras 2 give what Keras 2 gave: convolutions and normalisations computed by hand."""

import json

import h5py
import numpy as np
import pytest

from scripts.errors import ExportError
from scripts.exporting.model_files import read_model
from tests import keras2

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.3, (1, 1, 3, 4)).astype(np.float32)
DENSE, BIAS = RNG.normal(0, 1, (4, 3)).astype(np.float32), np.array([0.1, -0.2, 0.3], np.float32)
GAMMA, BETA, MEAN, VARIANCE = (RNG.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4))
IMAGES = RNG.uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)


def expected(images, *, shift=0.0, scale=1.0):
    """A 1 x 1 convolution, a batch normalisation, ReLU, the average, a dense layer and a softmax."""
    x = np.einsum("bhwc,cd->bhwd", images * scale + shift, KERNEL[0, 0])
    x = (x - MEAN) / np.sqrt(VARIANCE + 1e-3) * GAMMA + BETA
    z = np.maximum(x, 0).mean(axis=(1, 2)) @ DENSE + BIAS
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def body(source, prefix=""):
    return [
        keras2.layer("Conv2D", f"{prefix}conv", source, filters=4, kernel_size=[1, 1], use_bias=False, groups=1),
        keras2.layer("BatchNormalization", f"{prefix}bn", f"{prefix}conv", axis=[3], epsilon=1e-3, renorm=False),
        keras2.layer("ReLU", f"{prefix}relu", f"{prefix}bn"),
    ]


def weights(prefix=""):
    return {
        f"{prefix}conv/kernel": KERNEL,
        f"{prefix}bn/gamma": GAMMA,
        f"{prefix}bn/beta": BETA,
        f"{prefix}bn/moving_mean": MEAN,
        f"{prefix}bn/moving_variance": VARIANCE,
    }


def by_layer(named):
    layers = {}
    for name, value in named.items():
        layers.setdefault(name.rpartition("/")[0], {})[name] = value
    return layers


TOP = {"fc": {"fc/kernel": DENSE, "fc/bias": BIAS}}


def tail(source):
    return [
        keras2.layer("GlobalAveragePooling2D", "pool", source),
        keras2.layer("Dense", "fc", "pool", units=3, activation="softmax", kernel_initializer={"class_name": "Zeros"}),
    ]


def answers(path, **options):
    model = read_model(path, **options).model
    return np.asarray(model(IMAGES, training=False)), model


def test_a_flat_model_with_slashes_in_its_names(tmp_path):
    """As every DenseNet and MobileNet has them; axes as lists, policies as objects."""
    layers = [keras2.image("in"), *body("in", "conv1/"), *tail("conv1/relu")]
    layers[1]["config"]["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}
    path = keras2.write(tmp_path / "m.h5", keras2.functional("m", layers), {**by_layer(weights("conv1/")), **TOP})
    found, model = answers(path)
    np.testing.assert_allclose(found, expected(IMAGES), atol=1e-6)
    assert model.layers[1].name == "conv1_conv"


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 4, 1, 2, 0]])
def test_a_nested_models_weights_are_taken_by_name(order, tmp_path):
    """Their order in the file depends on what was frozen; calls of nested models are counted from one."""
    inner = keras2.functional("base", [keras2.image("inner"), *body("inner")], [[["in", 0, 0, {}]]])
    layers = [keras2.image("in"), inner, *tail("relu")]
    layers[2]["inbound_nodes"] = [[["base", 1, 0, {}]]]
    named = list(weights().items())
    path = keras2.write(
        tmp_path / "m.h5", keras2.functional("m", layers), {"base": dict(named[i] for i in order), **TOP}
    )
    np.testing.assert_allclose(answers(path)[0], expected(IMAGES), atol=1e-6)


@pytest.mark.parametrize("nested", [False, True])
def test_names_that_were_numbered_when_a_model_was_saved_again(nested, tmp_path):
    """Keras 2 calls a reloaded layer's weights `conv_1/kernel`; published files have such names."""
    named = {name.replace("/", "_1/"): value for name, value in weights().items()}
    inner = keras2.functional("base", [keras2.image("inner"), *body("inner")], [[["in", 0, 0, {}]]])
    layers = [keras2.image("in"), inner, *tail("relu")] if nested else [keras2.image("in"), *body("in"), *tail("relu")]
    if nested:
        layers[2]["inbound_nodes"] = [[["base", 1, 0, {}]]]
        stored = {"base": named}
    else:
        stored = {"conv": {"conv_1/kernel": named.pop("conv_1/kernel")}, "bn": named}
    path = keras2.write(tmp_path / "m.h5", keras2.functional("m", layers), {**stored, **TOP})
    model = read_model(path).model
    found = model.get_layer("base") if nested else model
    np.testing.assert_array_equal(found.get_layer("bn").gamma, GAMMA)
    np.testing.assert_array_equal(found.get_layer("bn").moving_variance, VARIANCE)


def test_a_name_that_ends_like_anothers_is_not_the_others(tmp_path):
    """DenseNet has `conv1/bn` and `bn`."""
    inner = keras2.functional(
        "base",
        [keras2.image("inner"), *body("inner", "x/"), keras2.layer("BatchNormalization", "bn", "x/relu", axis=[3])],
        [[["in", 0, 0, {}]]],
    )
    layers = [keras2.image("in"), inner, *tail("relu")]
    layers[2]["inbound_nodes"] = [[["base", 1, 0, {}]]]
    last = {"gamma": GAMMA * 2, "beta": BETA, "moving_mean": MEAN, "moving_variance": VARIANCE}
    named = {**weights("x/"), **{f"bn/{name}": value for name, value in last.items()}}
    path = keras2.write(tmp_path / "m.h5", keras2.functional("m", layers), {"base": named, **TOP})
    model = read_model(path).model
    np.testing.assert_array_equal(model.get_layer("base").get_layer("bn").gamma, GAMMA * 2)
    np.testing.assert_array_equal(model.get_layer("base").get_layer("x_bn").gamma, GAMMA)


def test_the_arithmetic_of_preprocess_input(tmp_path):
    """`x / 127.5 - 1` was recorded as two TensorFlow functions."""
    layers = [
        keras2.image("in"),
        keras2.layer(
            "TFOpLambda", "tf.math.truediv", [["in", 0, 0, {"y": 127.5, "name": None}]], function="math.truediv"
        ),
        keras2.layer(
            "TFOpLambda",
            "tf.math.subtract",
            [["tf.math.truediv", 0, 0, {"y": 1.0, "name": None}]],
            function="math.subtract",
        ),
        *body("tf.math.subtract"),
        *tail("relu"),
    ]
    path = keras2.write(tmp_path / "m.h5", keras2.functional("m", layers), {**by_layer(weights()), **TOP})
    np.testing.assert_allclose(answers(path)[0], expected(IMAGES, scale=1 / 127.5, shift=-1.0), atol=1e-6)


def sequential():
    layers = [keras2.image("in"), keras2.layer("RandomFlip", "flip", rng_type="stateful", mode="horizontal")]
    layers += [*body("flip"), *tail("relu")]
    for one in layers:
        del one["inbound_nodes"], one["name"]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}


def test_a_sequential_model_with_random_layers(tmp_path):
    """Which do nothing at inference."""
    path = keras2.write(tmp_path / "m.hdf5", sequential(), {**by_layer(weights()), **TOP}, loss="mse")
    np.testing.assert_allclose(answers(path)[0], expected(IMAGES), atol=1e-6)
    assert read_model(path).loss.kind == "regression"


def test_weights_alone_need_their_architecture(tmp_path):
    """The refusal says which flag gives it."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        keras2.fill(file, {**by_layer(weights()), **TOP})
    with pytest.raises(ExportError, match="--architecture"):
        read_model(tmp_path / "w.h5")
    (tmp_path / "m.json").write_text(json.dumps({**sequential(), "keras_version": "2.7.0"}))
    found, _ = answers(tmp_path / "w.h5", architecture=tmp_path / "m.json")
    np.testing.assert_allclose(found, expected(IMAGES), atol=1e-6)


@pytest.mark.parametrize("change", ["missing", "left over", "another shape"])
def test_weights_that_do_not_fit_are_refused(change, tmp_path):
    """By name."""
    named = weights()
    if change == "missing":
        del named["bn/beta"]
    elif change == "left over":
        named["bn/delta"] = BETA
    else:
        named["bn/beta"] = np.zeros(5, np.float32)
    path = keras2.write(tmp_path / "m.h5", sequential(), {**by_layer(named), **TOP})
    with pytest.raises(ExportError, match="bn/"):
        read_model(path)


def test_a_setting_that_keras_3_lacks_is_refused(tmp_path):
    """Not left out in silence."""
    layers = [keras2.image("in"), *body("in"), *tail("relu")]
    layers[2]["config"]["virtual_batch_size"] = 4
    path = keras2.write(tmp_path / "m.h5", keras2.functional("m", layers), {**by_layer(weights()), **TOP})
    with pytest.raises(ExportError, match="virtual_batch_size=4"):
        read_model(path)
