"""Conversion of a model configuration from Keras 2 to Keras 3."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from scripts.errors import ExportError
from scripts.exporting.legacy.functions import ACTIVATIONS, is_allowed
from scripts.exporting.legacy.nodes import Names, rewritten_nodes, rewritten_reference

Config = dict[str, Any]
_MODELS = ("Functional", "Model", "Sequential")
_RENAMED = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "FixedDropout": "Dropout",  # from the package efficientnet: dropout with a fixed noise shape
}
# Settings that affect the training of a network, but not its predictions.
_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
_DROPPED = (
    "rng_type",
    "force_generator",
    "implementation",
    "ragged",
    "batch_input_shape",
    "time_major",
    "reset_after_v1",
)


def keras_3_config(config: Config) -> Config:
    """Convert the configuration of a model, `{"class_name": ..., "config": ...}`, from Keras 2 to Keras 3.

    Raises:
        ExportError: if a part has no counterpart in Keras 3; the message names it.
    """
    if config.get("class_name") not in _MODELS:
        raise ExportError(
            f"the file contains a {config.get('class_name')!r}, a model without a layer graph: build it as "
            "keras.Model(image, output), then save it"
        )
    return _model(config)


def _model(config: Config) -> Config:
    inner = config["config"]
    if config["class_name"] == "Sequential":
        return _sequential(inner)
    names = Names(inner["layers"])
    layers = [
        {
            **_layer(layer),
            "name": names[layer["name"]],
            "inbound_nodes": rewritten_nodes(layer, names),
        }
        for layer in inner["layers"]
    ]
    for layer, old in zip(layers, inner["layers"], strict=True):
        layer["config"]["name"] = names[old["name"]]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": _plain(inner.get("name", "model")),
            "trainable": inner.get("trainable", True),
            "layers": layers,
            "input_layers": rewritten_reference(inner["input_layers"], names),
            "output_layers": rewritten_reference(inner["output_layers"], names),
        },
    }


def _sequential(inner: Any) -> Config:
    if isinstance(inner, list):  # from Keras before 2.3
        inner = {"name": "sequential", "layers": inner}
    layers = [_layer(layer) for layer in inner["layers"]]
    first = inner["layers"][0]["config"]
    shape = first.get("batch_input_shape") or inner.get("build_input_shape")
    if inner["layers"][0]["class_name"] not in ("InputLayer", *_MODELS) and shape is not None:
        image = {"batch_shape": shape, "dtype": "float32", "name": f"{_plain(first['name'])}_input"}
        layers.insert(0, _known("InputLayer", image))
    taken: set[str] = set()
    for layer in layers:
        name = layer["config"]["name"]
        while name in taken:
            name += "_"
        taken.add(name)
        layer["config"]["name"] = name
    return {
        "module": "keras",
        "class_name": "Sequential",
        "registered_name": None,
        "config": {"name": _plain(inner.get("name", "sequential")), "trainable": True, "layers": layers},
    }


def _layer(layer: Config) -> Config:
    """Convert one layer, without its calls."""
    kind = str(_RENAMED.get(layer["class_name"], layer["class_name"]))
    if kind in _MODELS:
        return _model({**layer, "class_name": kind})
    settings: Config = dict(layer["config"])
    settings["name"] = _plain(str(settings.get("name", layer.get("name"))))
    if "dtype" in settings:
        settings["dtype"] = _policy(settings["dtype"])
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        return _function(settings)
    if kind == "TensorFlowOpLayer":
        raise ExportError(
            f"layer {settings['name']!r} is a TensorFlow operation in the format of TensorFlow 2.0 to 2.3, which can't "
            "be read: load and save the model with TensorFlow 2.15"
        )
    if kind == "Lambda":
        return _lambda(settings)
    if not hasattr(keras.layers, kind):
        return {"module": None, "class_name": kind.rpartition(">")[2], "registered_name": kind, "config": settings}
    return _known(kind, settings)


def _known(kind: str, settings: Config) -> Config:
    """Convert a built-in layer of Keras."""
    if kind == "InputLayer":
        settings = {
            "batch_shape": settings.get("batch_shape") or settings.get("batch_input_shape"),
            "dtype": settings.get("dtype", "float32"),
            "name": settings["name"],
        }
    axis = settings.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        settings["axis"] = axis[0]
    if kind == "LeakyReLU" and "alpha" in settings:
        settings["negative_slope"] = settings.pop("alpha")
    for part in ("layer", "forward_layer", "backward_layer"):
        if isinstance(settings.get(part), dict):
            settings[part] = _layer(settings[part])
    activation = settings.get("activation")
    if isinstance(activation, dict) and isinstance(activation.get("config"), str):
        settings["activation"] = activation["config"]
    return {
        "module": "keras.layers",
        "class_name": kind,
        "registered_name": None,
        "config": _accepted(kind, {key: value for key, value in settings.items() if not key.endswith(_TRAINING_ONLY)}),
    }


def _accepted(kind: str, settings: Config) -> Config:
    """Return the settings that Keras 3 supports. Unsupported ones are dropped only if they have no effect.

    Raises:
        ExportError: if an unsupported setting has an effect.
    """
    known = {"name", "trainable", "dtype"}
    for base in getattr(keras.layers, kind).__mro__:
        if base is not object:
            known.update(inspect.signature(base.__init__).parameters)
    kept = {key: value for key, value in settings.items() if key in known}
    for key, value in settings.items():
        if key not in known and key not in _DROPPED and value not in (None, False, 0, 1, [], {}):
            raise ExportError(f"layer {settings['name']!r} has {key}={value!r}, which Keras {keras.__version__} lacks")
    return kept


def _policy(dtype: Any) -> Any:
    """Return the name of a dtype policy, if `dtype` is a serialised one."""
    if isinstance(dtype, dict) and isinstance(dtype.get("config"), dict):
        return dtype["config"].get("name", "float32")
    return dtype


def _function(settings: Config) -> Config:
    name = settings["name"]
    function = settings.get("function", "__operators__.getitem")
    if function in ACTIVATIONS:
        return _known("Activation", {"name": name, "activation": ACTIVATIONS[function]})
    if not is_allowed(function):
        raise ExportError(f"layer {name!r} calls tf.{function}, which is not one of the functions that a file may call")
    return {
        "module": "scripts.exporting.legacy.functions",
        "class_name": "TensorFlowFunction",
        "registered_name": "lightbox>TensorFlowFunction",
        "config": {"name": name, "function": function},
    }


def _lambda(settings: Config) -> Config:
    function = settings["function"]
    if isinstance(function, list):
        code, defaults, closure = function
        function = {"class_name": "__lambda__", "config": {"code": code, "defaults": defaults, "closure": closure}}
    kept = {key: settings[key] for key in ("name", "trainable", "dtype", "arguments") if key in settings}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "config": {**kept, "function": function},
    }


def _plain(name: str) -> str:
    """Return a name without slashes, which Keras 3 does not allow."""
    return name.replace("/", "_")
