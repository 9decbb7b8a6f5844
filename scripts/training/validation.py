"""Validate a recipe: train and test it once for each split of a validation scheme."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.artifact.manifest import InputSpec
from scripts.datasets.films import Film, class_names, digest, read_films
from scripts.datasets.splits import TrainTestSplit, k_fold, leave_one_group_out, select_films
from scripts.evaluation.metrics import compute_metrics, without_curves
from scripts.evaluation.predictions import Predictions, pool_predictions
from scripts.networks.backbones import BACKBONES, weights_provenance
from scripts.training.augmentation import REVISION
from scripts.training.features import cache_features
from scripts.training.fitting import Fitter, network_for, variants_of
from scripts.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ValidationScheme:
    """How films are divided into training and test sets.

    `split` is `patient` or `image` for a cross-validation with `fold_count` folds, or a column of `metadata.csv`, whose
    values are left out one at a time. `only` is a column and a value that select the films to use. The recipe is then
    also trained on all selected films and tested on the others.
    """

    split: str = "patient"
    fold_count: int = 5
    only: tuple[str, str] | None = None


def validate(
    data: Path, work: Path, recipe: Recipe, scheme: ValidationScheme, classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Train `recipe` once for each split of `scheme`, and return its metrics on the films held out.

    Cached features stay in `work`, so that other recipes with the same backbone can reuse them. Nothing is published.

    Args:
        data: the data folder.
        work: the folder for cached features.
        recipe: the settings of the training.
        scheme: the splits.
        classes: the class names in order; by default, sorted.

    Returns:
        The metrics of `compute_metrics` without curves: over all splits as `all`, for each split in `parts`, and, with
        `only`, on the films that were not selected as `elsewhere`; further, the scheme, the recipe and the data.

    Raises:
        ScriptError: the data, the weights, the recipe or the scheme can't be used.
    """
    tf.config.experimental.enable_op_determinism()
    films = read_films(data)
    names = class_names(films, classes)
    labels = np.array([names.index(film.label) for film in films])
    chosen = select_films(films, *scheme.only) if scheme.only else list(range(len(films)))
    if scheme.split in ("patient", "image"):
        splits = k_fold(films, chosen, scheme.fold_count, recipe.seed, by_patient=scheme.split == "patient")
    else:
        splits = leave_one_group_out(films, chosen, scheme.split)
    fitter = _fitter(films, names, labels, recipe, work)
    predictions = [_train_and_test(fitter, films, names, labels, split) for split in splits]
    figures = {
        "protocol": asdict(scheme),
        "recipe": asdict(recipe),
        "weights": weights_provenance(recipe.backbone, recipe.weights),
        "data": {"sha256": digest(films), "films": len(chosen)},
        "all": without_curves(compute_metrics(pool_predictions(predictions, scale_novelty=False))),
        "parts": {split.name: _split_figures(split, tested) for split, tested in zip(splits, predictions, strict=True)},
    }
    if scheme.only is not None:
        others = np.setdiff1d(np.arange(len(films)), chosen).tolist()
        elsewhere = TrainTestSplit.by_patient("elsewhere", films, chosen, others)
        if len(elsewhere.test):
            tested = _train_and_test(fitter, films, names, labels, elsewhere)
            figures["elsewhere"] = _split_figures(elsewhere, tested)
    return figures


def summary_lines(figures: dict[str, Any]) -> list[str]:
    """Format the accuracies and AUCs in the result of `validate`, one per line."""
    rows = {"all": figures["all"], **figures["parts"]}
    if "elsewhere" in figures:
        rows["elsewhere"] = figures["elsewhere"]
    lines = []
    for name, row in rows.items():
        lines.append(f"{name}: accuracy {_with_interval(row['accuracy'])}")
        for source, within in row["sources"].items():
            lines += [f"  {source}: {pair}, area {_with_interval(area)}" for pair, area in within["auc"].items()]
    return lines


def _with_interval(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), {figure['films']} films"


def _fitter(films: list[Film], names: tuple[str, ...], labels: np.ndarray, recipe: Recipe, work: Path) -> Fitter:
    network = network_for(films, len(names), recipe)
    facts = json.dumps([digest(films), recipe.backbone, recipe.weights, REVISION])
    scratch = work / f"features-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    scratch.mkdir(parents=True, exist_ok=True)
    size = BACKBONES[recipe.backbone].size
    spec = InputSpec(height=size, width=size, channels=3, fit="crop")
    return Fitter(
        network, cache_features(network.frozen, films, spec, variants_of(recipe), scratch), films, labels, recipe
    )


def _train_and_test(
    fitter: Fitter, films: list[Film], names: tuple[str, ...], labels: np.ndarray, split: TrainTestSplit
) -> Predictions:
    fitter.fit(split.train)
    return Predictions(
        films=[films[i] for i in split.test],
        classes=names,
        labels=labels[split.test],
        probabilities=fitter.probabilities(split.test),
        novelty=np.zeros(len(split.test), np.float32),  # a recipe is validated without its novelty score
    )


def _split_figures(split: TrainTestSplit, predictions: Predictions) -> dict[str, Any]:
    return {"trained_on": len(split.train), **without_curves(compute_metrics(predictions))}
