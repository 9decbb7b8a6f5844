"""Split a Keras classifier at one layer into a trunk (image to features) and a head (features to logits)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import keras

from scripts.errors import ExportError

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
_POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
# At inference, these layers return their input unchanged.
_PASSIVE = (keras.layers.Dropout, keras.layers.Identity)


Ending = Literal["softmax", "sigmoid", "logits", "logit"]


@dataclass(frozen=True, slots=True)
class SplitModel:
    """A classifier in two parts, which share the variables of the original model.

    `trunk` maps images `[B, H, W, C]` to features `[B, h, w, K]`, and `head` maps features to logits `[B, classes]`.
    `layer` is the name of the layer whose output the features are, and `ending` is what the original model ended in.
    """

    trunk: keras.Model
    head: keras.Model
    layer: str
    ending: Ending


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of a layer in the flattened graph."""

    path: str
    layer: Any
    inputs: Any
    output: Any

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def grid(self) -> tuple[int, int] | None:
        """The (height, width) of an output `[B, h, w, K]`; None for outputs of another shape."""
        shape: tuple[Any, ...] = getattr(self.output, "shape", ())
        return (shape[1], shape[2]) if len(shape) == 4 and None not in shape[1:] else None


def split_model(model: keras.Model, layer: str | None = None) -> SplitModel:
    """Split `model` at `layer`, given by its name or, if the name repeats, by a path such as `backbone/block5_conv3`.

    The default is the last layer whose output still has the spatial size of the last convolution. It includes the
    batch normalisation and activation after the convolution, but no pooling. Nested models are flattened. A final
    softmax is removed, because Grad-CAM takes the gradient of the logit. A final one-unit sigmoid with logit z becomes
    two logits, -z/2 and z/2.

    Raises:
        ExportError: the model can't be split; the message says why.
    """
    if not isinstance(model, (keras.Sequential, keras.Model)) or not getattr(model, "inputs", None):
        raise ExportError("the model has no layer graph: only Functional and Sequential models can be packed")
    if len(model.inputs) != 1:
        raise ExportError(f"the model has {len(model.inputs)} inputs; an image classifier has one")
    if len(model.outputs) != 1:
        raise ExportError(f"the model has {len(model.outputs)} outputs; a classifier has one")
    if len(model.inputs[0].shape) != 4:
        raise ExportError(f"the model's input has shape {model.inputs[0].shape}; an image's is (batch, H, W, channels)")
    if None in model.inputs[0].shape[1:]:
        raise ExportError(f"the model's input has shape {model.inputs[0].shape}; give it a fixed size, with --size")
    steps: list[_Step] = []
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    output = _replay(model, image, "", steps)
    step = _choose(steps, layer)
    logits, ending = _logits(output, steps)
    try:
        head = keras.Model(step.output, logits)
    except ValueError as error:
        raise ExportError(
            f"the logits don't depend on layer {step.path!r} alone: another path bypasses it, or it comes too late; "
            "use --layer to choose a layer that every path passes through"
        ) from error
    unique = sum(other.name == step.name for other in steps) == 1
    return SplitModel(keras.Model(image, step.output), head, step.name if unique else step.path, ending)


def _replay(model: Any, tensor: Any, prefix: str, steps: list[_Step]) -> Any:
    """Call the layers of `model` again on `tensor`, including those of nested models, and return the output."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal tensor
        path = prefix + layer.name
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None) and len(args) == 1:
            tensor = _replay(layer, args[0], f"{path}/", steps)
        else:
            tensor = _distinct(layer, path, steps)(*args, **kwargs)
            steps.append(_Step(path, layer, args[0] if args else None, tensor))
        return tensor

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            call(layer, tensor)
    else:
        # Keras calls the layers in topological order, so the last output is that of the model.
        keras.models.clone_model(model, input_tensors=tensor, clone_function=lambda layer: layer, call_function=call)
    return tensor


def _distinct(layer: Any, path: str, steps: list[_Step]) -> Any:
    """Return `layer`, or a copy under another name if the flat graph already has a layer of that name."""
    if not any(step.name == layer.name and step.layer is not layer for step in steps):
        return layer
    copy = type(layer).from_config({**layer.get_config(), "name": path.replace("/", "--")})
    if layer.built:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    return copy


def _choose(steps: list[_Step], layer: str | None) -> _Step:
    if layer is None:
        return _default_step(steps)
    found = [step for step in steps if layer in (step.path, step.name)]
    if not found:
        raise ExportError(f"there is no layer {layer!r}; layers with a spatial output: {_spatial_layers(steps)}")
    if len(found) > 1:
        raise ExportError(f"layer {layer!r} is ambiguous: {', '.join(step.path for step in found)}; give the path")
    if found[0].grid is None:
        raise ExportError(
            f"the output of layer {layer!r} has shape {found[0].output.shape}, not (batch, h, w, channels)"
        )
    return found[0]


def _spatial_layers(steps: Iterable[_Step]) -> str:
    return ", ".join(step.path for step in steps if step.grid) or "none"


def _default_step(steps: list[_Step]) -> _Step:
    # A convolution on a 1 x 1 grid is in effect a dense layer (squeeze-and-excitation, the head of MobileNetV3).
    convolutions = [i for i, step in enumerate(steps) if isinstance(step.layer, _CONVOLUTIONS) and _is_spatial(step)]
    if not convolutions:
        raise ExportError("the model has no convolution with a spatial output, which a heatmap needs")
    last = convolutions[-1]
    same = (step for step in steps[last:] if step.grid == steps[last].grid and not isinstance(step.layer, _POOLINGS))
    return list(same)[-1]


def _is_spatial(step: _Step) -> bool:
    return step.grid is not None and step.grid != (1, 1)


def _logits(output: Any, steps: list[_Step]) -> tuple[Any, Ending]:
    """Return the tensor before the final softmax or sigmoid, `[B, classes]`, and the ending of the model."""
    if len(output.shape) != 2:
        raise ExportError(f"the model's output has shape {output.shape}; a classifier's is (batch, classes)")
    producers = {id(step.output): step for step in steps}
    step = producers.get(id(output))
    while step is not None and isinstance(step.layer, _PASSIVE):
        step = producers.get(id(step.inputs))
    activation = "linear" if step is None else _activation(step.layer)
    units = output.shape[-1]
    if step is not None and activation == "softmax" and units > 1:
        return _without_activation(step), "softmax"
    if step is not None and activation == "sigmoid" and units == 1:
        return _two_logits(_without_activation(step)), "sigmoid"
    if activation != "linear":
        raise ExportError(
            f"the model ends in {activation!r} over {units} output(s); it must end in a softmax over several outputs, "
            "in logits, or in a one-unit sigmoid"
        )
    return (_two_logits(output), "logit") if units == 1 else (output, "logits")


def _activation(layer: Any) -> str:
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, keras.layers.ReLU | keras.layers.LeakyReLU):
        return "relu"
    function = getattr(layer, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", function))


def _without_activation(step: _Step) -> Any:
    if isinstance(step.layer, keras.layers.Softmax | keras.layers.Activation):
        return step.inputs
    linear = type(step.layer).from_config({**step.layer.get_config(), "activation": "linear"})
    logits = linear(step.inputs)
    linear.set_weights(step.layer.get_weights())
    return logits


def _two_logits(z: Any) -> Any:
    """Return (-z/2, z/2): softmax(-z/2, z/2) = (1 - sigmoid(z), sigmoid(z)), and both classes have a gradient."""
    return keras.layers.Concatenate()([keras.layers.Rescaling(-0.5)(z), keras.layers.Rescaling(0.5)(z)])
