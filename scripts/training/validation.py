"""Validate a recipe: train and test it once for each split of a validation scheme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from scripts.datasets.collection import Selection
from scripts.datasets.films import Film
from scripts.datasets.splits import (
    TrainTestSplit,
    k_fold,
    leave_one_group_out,
    leave_two_groups_out,
    select_films,
    select_sources,
)
from scripts.evaluation.metrics import area_by_patient, compute_metrics, without_curves
from scripts.evaluation.predictions import Predictions, pool_predictions
from scripts.evaluation.source import source_alone
from scripts.networks.backbones import weights_provenance
from scripts.training.preparation import Prepared, prepare
from scripts.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ValidationScheme:
    """How films are divided into training and test sets.

    `split` is `patient` or `image` for a cross-validation with `fold_count` folds, or a column of `metadata.csv`, whose
    values are left out one at a time, or with `pairs`, two at a time (`leave_two_groups_out`). `only` is a column and a
    value that select the films to use, and `class_sources` are pairs of a label and the one source to take its films
    from. The recipe is then also trained on all selected films and tested on the others.
    """

    split: str = "patient"
    fold_count: int = 5
    only: tuple[str, str] | None = None
    pairs: bool = False
    class_sources: tuple[tuple[str, str], ...] = ()


def validate(
    selection: Selection, work: Path, recipe: Recipe, scheme: ValidationScheme, classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Train `recipe` once for each split of `scheme`, and return its metrics on the films held out.

    Cached features stay in `work`, so that other recipes with the same backbone can reuse them. Nothing is published.

    Args:
        selection: the data folders, and which of their films are used.
        work: the folder for cached features.
        recipe: the settings of the training.
        scheme: the splits.
        classes: the class names in order; by default, sorted.

    Returns:
        The metrics of `compute_metrics` without curves: over all splits as `all`, for each split in `parts`, and on the
        films that were not selected or were excluded as `elsewhere`, if there are any; further, what the source alone
        explains, the scheme, the recipe and the data.

    Raises:
        ScriptError: the data, the weights, the recipe or the scheme can't be used.
    """
    tf.config.experimental.enable_op_determinism()
    prepared = prepare(selection, classes, recipe, work)
    films, names, labels = prepared.films, prepared.classes, prepared.labels
    chosen = prepared.chosen.tolist()
    if scheme.only is not None:
        chosen = sorted(set(chosen) & set(select_films(films, *scheme.only)))
    if scheme.class_sources:
        chosen = sorted(set(chosen) & set(select_sources(films, scheme.class_sources)))
    splits = _splits(films, chosen, scheme, recipe.seed, names[0])
    predictions = [_train_and_test(prepared, split) for split in splits]
    figures = {
        "protocol": asdict(scheme),
        "recipe": asdict(recipe),
        "weights": weights_provenance(recipe.backbone, recipe.weights),
        "data": {"sha256": prepared.digest, "films": len(chosen)},
        "all": without_curves(compute_metrics(pool_predictions(predictions, scale_novelty=False))),
        "source_alone": source_alone(films, labels, splits),
        "parts": {split.name: _split_figures(split, tested) for split, tested in zip(splits, predictions, strict=True)},
    }
    others = np.setdiff1d(np.arange(len(films)), chosen).tolist()
    elsewhere = TrainTestSplit.by_patient("elsewhere", films, chosen, others)
    if len(elsewhere.test):
        figures["elsewhere"] = _split_figures(elsewhere, _train_and_test(prepared, elsewhere))
    return figures


def _splits(
    films: list[Film], chosen: list[int], scheme: ValidationScheme, seed: int, first: str
) -> list[TrainTestSplit]:
    if scheme.split in ("patient", "image"):
        return k_fold(films, chosen, scheme.fold_count, seed, by_patient=scheme.split == "patient")
    if scheme.pairs:
        return leave_two_groups_out(films, chosen, scheme.split, first)
    return leave_one_group_out(films, chosen, scheme.split)


def summary_lines(figures: dict[str, Any]) -> list[str]:
    """Format the accuracies and AUCs in the result of `validate`, one per line."""
    rows = {"all": figures["all"], **figures["parts"]}
    if "elsewhere" in figures:
        rows["elsewhere"] = figures["elsewhere"]
    lines = []
    for name, row in rows.items():
        lines.append(f"{name}: accuracy {_with_interval(row['accuracy'])}")
        if "against_first" in row and row["against_first"]["value"] is not None:
            lines.append(f"  any other against the first class, area {_with_interval(row['against_first'])}")
        for source, within in row["sources"].items():
            lines += [f"  {source}: {pair}, area {_with_interval(area)}" for pair, area in within["auc"].items()]
    areas = [row["against_first"]["value"] for row in figures["parts"].values()]
    known = [area for area in areas if area is not None]
    alone = figures["source_alone"]
    if known:
        lines.append(f"mean over {len(known)} parts with two classes: area {np.mean(known):.3f}")
    lines.append(f"the source alone: accuracy {_with_interval(alone['accuracy'])}, balanced {alone['balanced']:.3f}")
    return lines


def _with_interval(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), {figure['films']} films"


def _train_and_test(prepared: Prepared, split: TrainTestSplit) -> Predictions:
    prepared.fitter.fit(split.train)
    return Predictions(
        films=[prepared.films[i] for i in split.test],
        classes=prepared.classes,
        labels=prepared.labels[split.test],
        probabilities=prepared.fitter.probabilities(split.test),
        novelty=np.zeros(len(split.test), np.float32),  # a recipe is validated without its novelty score
    )


def _split_figures(split: TrainTestSplit, predictions: Predictions) -> dict[str, Any]:
    rest = predictions.labels > 0
    return {
        "trained_on": len(split.train),
        **without_curves(compute_metrics(predictions)),
        "against_first": area_by_patient(predictions, -predictions.probabilities[:, 0], rest, ~rest),
    }
