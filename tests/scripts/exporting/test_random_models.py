"""Whatever is built at random is packed and equal to itself, or refused: never wrong."""

import keras
import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from scipy.special import expit, softmax

from scripts.errors import ExportError
from scripts.exporting.keras_files import export
from scripts.exporting.model_analysis import analyse_model
from tests import models

SIDE = 16


def conv(size, x):
    return layers.Conv2D(4, size, padding="same", activation="relu")(x)


def nested(x):
    start = keras.Input(x.shape[1:])
    return keras.Model(start, conv(3, start))(x)


def upsampled(x):
    small = conv(3, layers.AveragePooling2D(2, padding="same")(x))
    return layers.Concatenate()([x, layers.UpSampling2D()(small)[:, : x.shape[1], : x.shape[2]]])


BLOCKS = {
    "conv": lambda x: conv(3, x),
    "separable": lambda x: layers.ReLU()(layers.BatchNormalization()(layers.SeparableConv2D(4, 3)(x))),
    "residual": lambda x: layers.Add()([conv(1, x), conv(3, x)]),
    "branches": lambda x: layers.Concatenate()([conv(1, x), conv(3, x)]),
    "nested": nested,
    "attention": lambda x: x * layers.Dense(x.shape[-1], "sigmoid")(ops.mean(x, axis=(1, 2), keepdims=True)),
    "crop": lambda x: x[:, 1:-1, 1:-1],
    "flip": lambda x: ops.flip(x, axis=2),
    "transposed": layers.Permute((2, 1, 3)),
    "pool": layers.MaxPooling2D(padding="same"),
    "upsampled": upsampled,
}
HEADS = {
    "average": layers.GlobalAveragePooling2D(),
    "maximum": layers.GlobalMaxPooling2D(),
    "flat": layers.Flatten(),
    "mean": lambda x: ops.mean(x, axis=(1, 2)),
    "both": lambda x: layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]),
    "two branches": lambda x: layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(conv(1, x)), layers.GlobalMaxPooling2D()(conv(3, x))]
    ),
}
TAILS = {
    "softmax": layers.Dense(3, "softmax"),
    "softmax behind": lambda x: layers.Reshape((3,))(ops.softmax(layers.Dense(3)(x))),
    "logits": layers.Dense(3),
    "logit": layers.Dense(1),
    "sigmoid": layers.Dense(1, "sigmoid"),
    "sigmoid behind": lambda x: layers.Activation("linear", dtype="float32")(ops.sigmoid(layers.Dense(1)(x))),
    "sigmoids": layers.Dense(4, "sigmoid"),
    "clipped": lambda x: ops.clip(layers.Dense(1, "sigmoid")(x), 0.05, 0.95),
    "average": lambda x: layers.Average()([layers.Dense(3, "softmax")(x), layers.Dense(3, "softmax")(x)]),
}
PROBABILITIES = {"softmax", "softmax behind", "sigmoid", "sigmoid behind", "sigmoids"}
# What must be refused: the outputs are probabilities, and can't be seen to be.
HIDDEN = {"clipped", "average"}
shapes = st.tuples(
    st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4),
    st.sampled_from(sorted(HEADS)),
    st.sampled_from(sorted(TAILS)),
    st.sampled_from(["float32", "mixed_float16", "mixed_bfloat16"]),
    st.integers(0, 99),
)


def build(blocks, head, tail, policy, seed):
    """A seeded classifier; the tables' layers are made anew for it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((SIDE, SIDE, 3))
        x = conv(3, layers.Rescaling(1 / 255)(image))
        for name in blocks:
            x = fresh(BLOCKS[name])(x)
        x = fresh(TAILS[tail])(fresh(HEADS[head])(x))
    finally:
        keras.config.set_dtype_policy(before)
    return models.randomised(keras.Model(image, x), seed)


def fresh(part):
    """A layer of the current policy in the place of one that was made before; a function as it is."""
    if not isinstance(part, layers.Layer):
        return part
    config = {key: value for key, value in part.get_config().items() if key not in ("dtype", "name")}
    return type(part).from_config(config)


def own_probabilities(model, tail, images):
    """What the model says, read by how it was built and not by the exporter."""
    outputs = np.asarray(ops.cast(model(images.astype(np.float32), training=False), "float32"), np.float64)
    if tail == "logits":
        outputs = softmax(outputs, axis=-1)
    elif tail == "logit":
        outputs = expit(outputs)
    return np.concatenate([1 - outputs, outputs], axis=-1) if outputs.shape[-1] == 1 else outputs


def images_for(seed):
    return np.random.default_rng(seed).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes)
def test_a_random_model_is_split_correctly_or_refused(shape):
    """Its two parts give its own probabilities; what can't be understood is refused."""
    tail, images = shape[2], images_for(shape[4])
    model = build(*shape)
    try:
        found = analyse_model(model)
    except ExportError:
        assert tail not in PROBABILITIES or "two branches" in shape or "crop" in shape[0]
        return
    assert tail not in HIDDEN
    logits = np.asarray(found.split.head(found.split.trunk(images.astype(np.float32))), np.float64)
    actual = expit(logits) if found.ending.task == "multi_label" else softmax(logits, axis=-1)
    np.testing.assert_allclose(actual, own_probabilities(model, tail, images), atol=found.tolerance)


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(shapes)
def test_a_random_model_is_packed_and_equal_or_refused(tmp_path_factory, shape):
    """Really written, and loaded again by plain TensorFlow."""
    tail, images = shape[2], images_for(shape[4])
    model, store = build(*shape), tmp_path_factory.mktemp("store")
    classes = tuple("abcd")[: max(2, model.output_shape[-1])]
    try:
        entry = export(model, classes, "m", store, warn=lambda _: None)
    except ExportError:
        return
    served = tf.saved_model.load(str(entry)).signatures["serving_default"]
    actual = served(images=tf.constant(images))["probabilities"].numpy()
    coarse = 1e-5 if shape[3] == "float32" else 0.1
    np.testing.assert_allclose(actual, own_probabilities(model, tail, images), atol=coarse)
