"""The loss that a model was compiled with, and what it implies about the outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras

LossKind = Literal["categorical", "binary", "regression", "margin", "other"]
_KINDS: dict[str, LossKind] = {
    "categoricalcrossentropy": "categorical",
    "sparsecategoricalcrossentropy": "categorical",
    "categoricalfocalcrossentropy": "categorical",
    "binarycrossentropy": "binary",
    "binaryfocalcrossentropy": "binary",
    "bce": "binary",
    **dict.fromkeys(("meansquarederror", "mse", "meanabsoluteerror", "mae", "huber", "huberloss"), "regression"),
    **dict.fromkeys(("meanabsolutepercentageerror", "mape", "meansquaredlogarithmicerror", "msle"), "regression"),
    **dict.fromkeys(("logcosh", "poisson", "cosinesimilarity", "cosineproximity", "quantileloss"), "regression"),
    **dict.fromkeys(("hinge", "squaredhinge", "categoricalhinge"), "margin"),
}


@dataclass(frozen=True, slots=True)
class CompiledLoss:
    """The `name` and the `kind` of a loss, and whether it expects logits."""

    name: str
    kind: LossKind
    from_logits: bool


def loss_of_config(config: Any) -> CompiledLoss | None:
    """Return the loss in the compile configuration of a file; None if there is none, or several."""
    return _read(config.get("loss")) if isinstance(config, Mapping) else None


def loss_of_model(model: keras.Model) -> CompiledLoss | None:
    """Return the loss that `model` is compiled with, or None."""
    if not getattr(model, "compiled", False):
        return None
    loss = model.loss
    return _read(keras.losses.serialize(loss) if isinstance(loss, keras.Loss) else loss)


def _read(loss: Any) -> CompiledLoss | None:
    """Read a loss: a name, a serialised loss or function, or a list or dict with one of them."""
    if isinstance(loss, Mapping) and "class_name" in loss:
        config, name = loss.get("config"), str(loss["class_name"])
        if name == "function":
            name, config = str(config), None
        settings = config if isinstance(config, Mapping) else {}
        return _known(name, from_logits=bool(settings.get("from_logits", False)))
    if isinstance(loss, Mapping):
        loss = [value for key, value in loss.items() if not str(key).startswith("__")]
    if isinstance(loss, (list, tuple)):
        return _read(loss[0]) if len(loss) == 1 else None
    if loss is None:
        return None
    return _known(loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__), from_logits=False)


def _known(name: str, *, from_logits: bool) -> CompiledLoss:
    plain = re.sub(r"[^a-z]", "", name.rpartition(".")[2].rpartition(">")[2].lower())
    return CompiledLoss(name, _KINDS.get(plain, "other"), from_logits)
