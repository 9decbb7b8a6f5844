"""The weights that Keras 2 stored, given to the same model in Keras 3 by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np

from scripts.errors import ExportError
from scripts.exporting.flat_graph import inner_layers

# Keras 2 by Keras 3, where they differ.
_RENAMED = {"depthwise_kernel": "kernel"}
_Key = tuple[str, str, tuple[int, ...]]


def load_named_weights(group: h5py.Group, model: keras.Model) -> None:
    """Give `model` the weights of an HDF5 group of Keras 2, which has one group for each layer.

    Keras stores a nested model's weights in an order that depends on what was frozen, and the four of a
    batch normalisation have one shape: in another order they would fit and be wrong. So they are taken by name.

    Raises:
        ExportError: a weight is missing, is left over, or has another shape.
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
    """The variables of `layer` and of those inside of it, trainable ones first, each with its owner and name."""
    # The innermost comes last.
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
        # Of several with one name, as in models that were nested side by side, the order decides.
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
    """The one of `paths` that names the layer `owner`, whole or, behind the scopes that it was made in, at its end.

    Raises:
        ExportError: several do.
    """
    whole = [path for path in paths if path.replace("/", "_") == owner]
    ends = whole or [path for path in paths if _ends_in(path, owner)]
    if len(ends) > 1:
        raise ExportError(f"several weights of the file could be those of layer {owner!r}: {', '.join(ends)[:120]}")
    return ends[0] if ends else owner


def _ends_in(path: str, owner: str) -> bool:
    parts = path.split("/")
    return any("_".join(parts[start:]) == owner for start in range(1, len(parts)))


def load_numbered_weights(group: h5py.Group, model: keras.Model) -> None:
    """Give `model` the weights of a `.keras` file of Keras 2, which numbers the layers of each class.

    Raises:
        ExportError: a weight is missing, or has another shape.
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
            raise ExportError(f"the weights of layer {layer.name!r} in the file do not fit the layer: save it as .h5")
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
    """As Keras names the groups: Conv2D is conv2d, BatchNormalization batch_normalization."""
    return str(keras.src.utils.naming.to_snake_case(name))
