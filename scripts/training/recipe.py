"""The recipe: what decides the result of a training run, besides the films."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import get_args

from scripts.datasets.films import Weighting
from scripts.networks.backbones import BACKBONES, HeadKind


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a training run yields, besides the films.

    `variants` augmented variants of each film, of `strength` 0..1, are cached beside the film itself. `penalty` is the
    logistic head's L2 penalty. Fine-tuning shows the film itself in one of `clean_share` cases; `decay` and
    `head_decay` are AdamW's; from two fifths of the steps on, weights are averaged. With `least_masks` lung masks or
    more, the network gets a lung gate, if `gate`.
    """

    backbone: str = "vgg16"
    weights: str = "imagenet"
    seed: int = 0
    variants: int = 1
    strength: float = 0.5
    head: HeadKind = "logistic"
    weighting: Weighting = "source"
    penalty: float = 0.5
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-4
    head_learning_rate: float = 3e-4
    decay: float = 0.02
    head_decay: float = 0.5
    dropout: float = 0.3
    label_smoothing: float = 0.05
    clean_share: float = 0.25
    averaging: float = 0.97
    gate: bool = True
    lung_epochs: int = 12
    least_masks: int = 20


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Let a command line say what a recipe is."""
    defaults = Recipe()
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default=defaults.backbone)
    parser.add_argument("--weights", default=defaults.weights, help="imagenet, hed, none, or a .weights.h5 file")
    parser.add_argument("--head", choices=get_args(HeadKind), default=defaults.head)
    parser.add_argument("--weighting", choices=get_args(Weighting), default=defaults.weighting, help="of the films")
    parser.add_argument("--ungated", action="store_true", help="no lung gate, though there are lung masks")
    for field, help_text in (
        ("seed", "decides folds, variants, order and first weights"),
        ("epochs", "of fine-tuning"),
        ("variants", "augmented variants per film"),
        ("batch_size", "films per step"),
    ):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, default=getattr(defaults, field), help=help_text)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe that the options of `add_recipe_options` say."""
    return Recipe(
        backbone=options.backbone,
        weights=options.weights,
        head=options.head,
        weighting=options.weighting,
        gate=not options.ungated,
        seed=options.seed,
        epochs=options.epochs,
        variants=options.variants,
        batch_size=options.batch_size,
    )
