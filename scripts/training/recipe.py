"""The recipe of a training run, and its command-line options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import get_args

from scripts.datasets.films import Weighting
from scripts.networks.backbones import BACKBONES, HeadKind


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings that, together with the films, determine the result of a training run.

    Attributes:
        backbone: a key of `BACKBONES`.
        weights: `imagenet`, `hed`, `package`, `none`, or a `.weights.h5` file.
        seed: decides folds, variants, order and initial weights.
        variants: the number of augmented variants of each film, which are cached in addition to the film itself.
        strength: of the augmentation, 0..1.
        head: the kind of head.
        weighting: how the weight of a film is chosen; see `film_weights`.
        penalty: the L2 penalty of a logistic head, on the average or on the moments.
        augmented_head: whether a logistic head is fitted to the variants of each film as well.
        epochs: the epochs of fine-tuning.
        batch_size: films per step of fine-tuning.
        learning_rate: of the tail in fine-tuning.
        head_learning_rate: of the head in fine-tuning.
        decay: AdamW's weight decay for the tail.
        head_decay: AdamW's weight decay for the head.
        dropout: the dropout rate before the last layer.
        label_smoothing: of the cross-entropy in fine-tuning.
        clean_share: the share of films that fine-tuning draws unaugmented.
        averaging: the decay of the running average of the weights, which starts after two fifths of the steps.
        gate: whether the network gets a lung gate, given enough masks.
        lung_epochs: the epochs of training the lung map.
        least_masks: the number of lung masks that a lung gate, or finding the lungs first, needs.
        lungs_first: whether the network finds the lungs and crops the image to them.
        segmenter_variants: the number of augmented variants of each film with a mask, for the segmenter.
        segmenter_epochs: the epochs of training the segmenter.
    """

    backbone: str = "vgg16"
    weights: str = "imagenet"
    seed: int = 0
    variants: int = 1
    strength: float = 0.5
    head: HeadKind = "logistic"
    weighting: Weighting = "source"
    penalty: float = 0.5
    augmented_head: bool = False
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
    lungs_first: bool = False
    segmenter_variants: int = 4
    segmenter_epochs: int = 3


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a recipe to a command line."""
    defaults = Recipe()
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default=defaults.backbone)
    parser.add_argument(
        "--weights", default=defaults.weights, help="imagenet, hed, package, none, or a .weights.h5 file"
    )
    parser.add_argument("--head", choices=get_args(HeadKind), default=defaults.head)
    parser.add_argument(
        "--weighting",
        choices=get_args(Weighting),
        default=defaults.weighting,
        help="how films are weighted in training",
    )
    parser.add_argument(
        "--lungs-first", action="store_true", help="find the lungs, and crop the image to them, inside the network"
    )
    parser.add_argument("--penalty", type=float, default=defaults.penalty, help="L2 penalty of a logistic head")
    parser.add_argument("--strength", type=float, default=defaults.strength, help="of the augmentation, 0..1")
    parser.add_argument(
        "--augmented-head", action="store_true", help="fit a logistic head to the variants of each film as well"
    )
    parser.add_argument("--ungated", action="store_true", help="train without a lung gate even if there are lung masks")
    for field, help_text in (
        ("seed", "decides folds, variants, order and initial weights"),
        ("epochs", "epochs of fine-tuning"),
        ("variants", "augmented variants per film"),
        ("batch_size", "films per step"),
    ):
        parser.add_argument(f"--{field.replace('_', '-')}", type=int, default=getattr(defaults, field), help=help_text)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Return the recipe that the options of `add_recipe_options` describe."""
    return Recipe(
        backbone=options.backbone,
        weights=options.weights,
        head=options.head,
        weighting=options.weighting,
        penalty=options.penalty,
        strength=options.strength,
        augmented_head=options.augmented_head,
        lungs_first=options.lungs_first,
        gate=not options.ungated,
        seed=options.seed,
        epochs=options.epochs,
        variants=options.variants,
        batch_size=options.batch_size,
    )
