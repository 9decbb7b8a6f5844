"""TensorFlow functions that Keras 2 recorded as layers, such as the arithmetic of `x / 127.5 - 1`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# The functions that a file may call: arithmetic, shapes and reductions, without state or side effects.
_ALLOWED = (
    "__operators__.getitem __operators__.add math.add math.subtract math.multiply math.truediv math.divide "
    "math.maximum math.minimum math.pow math.square math.sqrt math.rsqrt math.abs math.exp math.log math.negative "
    "math.reduce_mean math.reduce_max math.reduce_min math.reduce_sum math.reduce_std math.l2_normalize "
    "nn.l2_normalize nn.bias_add nn.avg_pool nn.max_pool nn.depth_to_space nn.space_to_depth "
    "cast reshape squeeze expand_dims transpose compat.v1.transpose concat stack reverse pad tile identity "
    "stop_gradient clip_by_value image.resize image.per_image_standardization image.rgb_to_grayscale "
    "image.grayscale_to_rgb image.central_crop image.flip_left_right image.flip_up_down"
)
# Activations, which become layers of Keras.
ACTIVATIONS = {
    **{f"{module}.{name}": name for module in ("math", "nn") for name in ("sigmoid", "softmax", "tanh")},
    **{f"nn.{name}": name for name in ("relu", "relu6", "elu", "selu", "silu", "gelu", "swish", "leaky_relu")},
}


def is_allowed(function: str) -> bool:
    """Return whether a file may call the function with this name."""
    return function in _ALLOWED.split()


@keras.saving.register_keras_serializable("lightbox")
class TensorFlowFunction(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A call of a TensorFlow function by its name, which must be allowed (`is_allowed`)."""

    def __init__(self, function: str, **options: Any) -> None:
        super().__init__(**options)
        if not is_allowed(function):
            raise ValueError(f"tf.{function} is not one of the functions that a file may call")
        self.function = function

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function}

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.function == "__operators__.getitem":
            return args[0][_slices(kwargs.get("slice_spec", args[1:]))]
        if self.function == "__operators__.add":
            return args[0] + (args[1] if len(args) > 1 else kwargs["y"])
        found: Any = tf
        for part in self.function.split("."):
            found = getattr(found, part)
        return found(*args, **kwargs)


def _slices(spec: Any) -> Any:
    """Convert the serialised index of an expression like `x[1:, ..., 0]` to Python."""
    if isinstance(spec, dict):
        return slice(spec.get("start"), spec.get("stop"), spec.get("step"))
    if isinstance(spec, (list, tuple)):
        return tuple(_slices(part) for part in spec)
    return Ellipsis if spec in ("...", "Ellipsis") else spec
