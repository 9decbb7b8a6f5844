"""Conversion of the calls of a Functional model from Keras 2 to Keras 3."""

from __future__ import annotations

from typing import Any

_CONSTANT = "_CONSTANT_VALUE"
_MODELS = ("Functional", "Model", "Sequential")


class Names:
    """The unique names of a model's layers without slashes, and the numbering of their calls."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        self._new: dict[str, str] = {}
        for layer in layers:
            name = layer["name"].replace("/", "_")
            while name in self._new.values():
                name += "_"
            self._new[layer["name"]] = name
        calls = {layer["name"]: len(layer["inbound_nodes"]) for layer in layers}
        # Keras 2 counts the calls of a nested model with its own graph from 1, Keras 3 from 0.
        self._models = {layer["name"] for layer in layers if layer["class_name"] in _MODELS}
        self._functional = {layer["name"] for layer in layers if layer["class_name"] in _MODELS[:2]}
        highest = dict.fromkeys(calls, 0)
        for name, index in _references([layer["inbound_nodes"] for layer in layers], set(calls)):
            highest[name] = max(highest[name], index)
        self._first = {name: int(name in self._models and highest[name] >= calls[name]) for name in calls}

    def __getitem__(self, name: str) -> str:
        return self._new[name]

    def __contains__(self, name: object) -> bool:
        return name in self._new

    def call(self, name: str, index: int) -> int:
        """Return the index of a call of the layer, counted from 0."""
        return index - self._first[name]

    def starts_at_one(self, name: str) -> bool:
        """Return whether Keras 3 counts the calls of the layer from 1 in the lists of inputs and outputs."""
        return name in self._functional


def rewritten_nodes(layer: dict[str, Any], names: Names) -> list[dict[str, Any]]:
    """Convert the calls of `layer`."""
    return [_node(node, names) for node in layer["inbound_nodes"]]


def _node(node: Any, names: Names) -> dict[str, Any]:
    """Convert `[[name, call, tensor, {arguments}], ...]` to `{"args": ..., "kwargs": ...}`."""
    if isinstance(node, dict):  # the format of Keras 3
        return node
    keywords: dict[str, Any] = {}

    def structure(part: Any) -> Any:
        if _is_leaf(part, names):
            if len(part) > 3:
                keywords.update(part[3])
            return part[2] if part[0] == _CONSTANT else _tensor(part, names)
        if isinstance(part, dict):
            return {key: structure(value) for key, value in part.items()}
        return [structure(value) for value in part]

    argument = structure(node)
    if isinstance(argument, list) and len(argument) == 1:
        argument = argument[0]
    return {
        "args": [argument],
        "kwargs": {key: _keyword(value, names) for key, value in keywords.items() if key != "name"},
    }


def _keyword(value: Any, names: Names) -> Any:
    if _is_leaf(value, names):
        return _tensor(value, names)
    if isinstance(value, list):
        return [_keyword(part, names) for part in value]
    return value


def _is_leaf(part: Any, names: Names) -> bool:
    return (
        isinstance(part, (list, tuple))
        and len(part) in (3, 4)
        and isinstance(part[0], str)
        and isinstance(part[1], int)
        and (part[0] == _CONSTANT or (part[0] in names and isinstance(part[2], int)))
    )


def _tensor(leaf: Any, names: Names) -> dict[str, Any]:
    name, call, tensor = leaf[:3]
    history = [names[name], names.call(name, call), tensor]
    # Keras reads only the history, and infers the shape.
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None], "dtype": "float32", "keras_history": history},
    }


def rewritten_reference(reference: Any, names: Names) -> Any:
    """Convert a model's inputs or outputs, `[[name, call, tensor], ...]`. A list of one becomes its element."""
    if _is_leaf(reference, names):
        name, call, tensor = reference[:3]
        return [names[name], names.call(name, call) + int(names.starts_at_one(name)), tensor]
    if isinstance(reference, dict):
        return {key: rewritten_reference(value, names) for key, value in reference.items()}
    found = [rewritten_reference(part, names) for part in reference]
    return found[0] if len(found) == 1 else found


def _references(part: Any, names: set[str]) -> list[tuple[str, int]]:
    """Return every (name, call) that `part` refers to, at any depth."""
    if isinstance(part, dict):
        return [found for value in part.values() for found in _references(value, names)]
    if not isinstance(part, (list, tuple)):
        return []
    own = len(part) >= 3 and isinstance(part[0], str) and part[0] in names and isinstance(part[1], int)
    return ([(part[0], part[1])] if own else []) + [found for value in part for found in _references(value, names)]


def flattened(config: Any) -> Any:
    """Replace lists of one input or output in a configuration of Keras 3 by their element.

    This includes nested models, and the lists or dicts of one with which they are called.
    """
    if isinstance(config, list):
        return [flattened(value) for value in config]
    if not isinstance(config, dict):
        return config
    found = {key: flattened(value) for key, value in config.items()}
    for key in ("input_layers", "output_layers"):
        ends = found.get(key)
        if isinstance(ends, dict) and len(ends) == 1:
            ends = list(ends.values())
        if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
            found[key] = ends[0]
    if found.get("class_name") in _MODELS[:2] and "inbound_nodes" in found:
        found["inbound_nodes"] = [_called_alone(node) for node in found["inbound_nodes"]]
    return found


def _called_alone(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    args = [_alone(argument) for argument in node.get("args", [])]
    return {**node, "args": args, "kwargs": {key: _alone(value) for key, value in node.get("kwargs", {}).items()}}


def _alone(argument: Any) -> Any:
    if isinstance(argument, list) and len(argument) == 1:
        return argument[0]
    if isinstance(argument, dict) and len(argument) == 1 and "class_name" not in argument:
        return next(iter(argument.values()))
    return argument
