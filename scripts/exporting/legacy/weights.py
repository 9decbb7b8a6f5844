"""Loading of weights that Keras 2 stored into the same model in Keras 3."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np

from scripts.errors import ExportError
from scripts.exporting.flat_graph import inner_layers

# Names of weights that differ between Keras 2 and Keras 3.
_RENAMED = {"depthwise_kernel": "kernel"}
_NUMBER = re.compile(r"_\d+$")
_Key = tuple[str, str, tuple[int, ...]]


def load_named_weights(group: h5py.Group, model: keras.Model) -> None:
    """Load the weights of `model` from an HDF5 group of Keras 2, which has one group per layer.

    Weights are matched by name. The order in which Keras stores the weights of a nested model depends on which layers
    were frozen, and the four weights of a batch normalisation have the same shape, so a wrong order would go unnoticed.

    Raises:
        ExportError: if a weight is missing, is left over, or has a different shape.
    """
    stored = {_text(name).replace("/", "_"): group[_text(name)] for name in group.attrs["layer_names"]}
    stored = {name: part for name, part in stored.items() if len(part.attrs.get("weight_names", ()))}
    for layer in model.layers:
        wanted = _variables(layer)
        if not wanted:
            continue
        if layer.name not in stored:
            raise ExportError(f"the file has no weights for layer {layer.name!r}; it has: {', '.join(stored)[:120]}")
        _assign(layer.name, wanted, stored.pop(layer.name))
    if stored:
        raise ExportError(f"the file has weights for layers that the model lacks: {', '.join(stored)[:120]}")


def _variables(layer: Any) -> list[tuple[_Key, Any]]:
    """Return the variables of `layer` and of the layers inside it, trainable ones first, each with its key."""
    # Inner layers come last, so a variable's owner is the innermost one.
    owners = {id(variable): inner for inner in inner_layers(layer) for variable in inner.weights}
    found = []
    for variable in (*layer.trainable_weights, *layer.non_trainable_weights):
        owner = owners.get(id(variable), layer)
        found.append(((owner.name, _renamed(variable.name), tuple(variable.shape)), variable))
    return found


def _renamed(name: str) -> str:
    return _RENAMED.get(name, name)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _assign(name: str, wanted: list[tuple[_Key, Any]], group: h5py.Group) -> None:
    stored: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for path in map(_text, group.attrs["weight_names"]):
        owner, _, weight = path.removesuffix(":0").rpartition("/")
        stored[owner, _renamed(weight)].append(np.asarray(group[path]))
    for (owner, weight, shape), variable in wanted:
        # Weights with the same name, as in models nested side by side, are matched by their order.
        values = stored.get((_stored_owner([path for path, one in stored if one == weight], owner), weight), [])
        if not values:
            raise ExportError(f"layer {name!r} of the file has no weight {owner}/{weight}")
        value = values.pop(0)
        if value.shape != shape:
            raise ExportError(f"weight {owner}/{weight} has shape {value.shape} in the file and {shape} in the model")
        variable.assign(value)
    if left := [f"{owner}/{weight}" for (owner, weight), values in stored.items() if values]:
        raise ExportError(f"layer {name!r} of the file has weights that the model lacks: {', '.join(left)[:120]}")


def _stored_owner(paths: list[str], owner: str) -> str:
    """Return the path that equals the name of the layer `owner`, or else the path that ends in it, after scopes.

    Raises:
        ExportError: if there are several.
    """
    matches = (
        lambda path: path.replace("/", "_") == owner,
        lambda path: _ends_in(path, owner),
        # Keras 2 numbers the names in a model that was loaded and saved again.
        lambda path: _ends_in(f"scope/{_NUMBER.sub('', path)}", owner),
    )
    ends = next(filter(None, ([path for path in paths if match(path)] for match in matches)), [])
    if len(ends) > 1:
        raise ExportError(f"several weights in the file match layer {owner!r}: {', '.join(ends)[:120]}")
    return ends[0] if ends else owner


def _ends_in(path: str, owner: str) -> bool:
    parts = path.split("/")
    return any("_".join(parts[start:]) == owner for start in range(1, len(parts)))


def load_numbered_weights(group: h5py.Group, model: keras.Model) -> None:
    """Load the weights of `model` from a `.keras` file of Keras 2, which numbers the layers of each class.

    Raises:
        ExportError: if a weight is missing, or has a different shape.
    """
    layers = group["layers"] if "layers" in group else group["_layer_checkpoint_dependencies"]
    for layer, part in _numbered(model, layers):
        if isinstance(layer, keras.Model):
            load_numbered_weights(part, layer)
            continue
        own = layer.weights
        values = (
            [np.asarray(part["vars"][str(number)]) for number in range(len(part["vars"]))] if "vars" in part else []
        )
        if [value.shape for value in values] != [tuple(variable.shape) for variable in own]:
            raise ExportError(f"the weights of layer {layer.name!r} in the file do not match it: save the model as .h5")
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)


def _numbered(model: keras.Model, layers: h5py.Group) -> Iterator[tuple[Any, h5py.Group]]:
    counts: dict[str, int] = defaultdict(int)
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if layer.weights:
            if name not in layers:
                raise ExportError(f"the file has no weights for layer {layer.name!r}: save the model as .h5")
            yield layer, layers[name]


def _snake_case(name: str) -> str:
    """Return the name of the group of a class: `conv2d`, `batch_normalization`."""
    return str(keras.src.utils.naming.to_snake_case(name))
