"""Model files as Keras 2 wrote them: its configuration, and weights by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def layer(kind: str, name: str, source: Any = None, **settings: Any) -> dict[str, Any]:
    """One layer's configuration; `source` is the name of the layer that it is called on, or a list of nodes."""
    if isinstance(source, str):
        source = [[[source, 0, 0, {}]]]
    config = {"name": name, "trainable": True, "dtype": "float32", **settings}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": source or []}


def image(name: str, side: int = 16) -> dict[str, Any]:
    return layer("InputLayer", name, batch_input_shape=[None, side, side, 3], sparse=False, ragged=False)


def functional(name: str, layers: list[dict[str, Any]], source: Any = None) -> dict[str, Any]:
    """A model of `layers`, from the first to the last."""
    ends = {
        "input_layers": [[layers[0]["name"], 0, 0]],
        "output_layers": [[layers[-1]["name"], 0, 0]],
    }
    config = {"name": name, "trainable": True, "layers": layers, **ends}
    return {"class_name": "Functional", "config": config, "name": name, "inbound_nodes": source or []}


def write(path: Path, config: dict[str, Any], weights: dict[str, dict[str, np.ndarray]], loss: Any = None) -> Path:
    """An HDF5 file of Keras 2.7; `weights` are by layer and, within it, by name."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.7.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        if loss is not None:
            file.attrs["training_config"] = json.dumps({"loss": loss, "optimizer_config": {"class_name": "Adam"}})
        group = file.create_group("model_weights")
        fill(group, weights)
    return path


def fill(group: h5py.Group, weights: dict[str, dict[str, np.ndarray]]) -> None:
    """Weights as Keras 2 stores them, also in a file of weights alone."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    for name, values in weights.items():
        part = group.require_group(name)
        part.attrs["weight_names"] = [f"{weight}:0".encode() for weight in values]
        for weight, value in values.items():
            part[f"{weight}:0"] = value
