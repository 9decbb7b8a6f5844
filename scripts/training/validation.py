"""How a recipe does on films that it was not trained on: trained and tested once per part of a split."""

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
from scripts.datasets.splits import Part, by_folds, leaving_out, selected
from scripts.evaluation.calibration import cross_calibrated
from scripts.evaluation.judgement import Predictions, metrics, summary
from scripts.networks.backbones import BACKBONES, weights_provenance
from scripts.training.augmentation import REVISION
from scripts.training.features import cache_features
from scripts.training.fitting import Fitter, network_for, variants_of
from scripts.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is trained on what, and tested on what.

    `split` is `patient` or `image`, for `fold_count` folds, or a column of the data's table, each of whose values is
    left out once. `only` is a column and a value: all other films are left aside, and the recipe, trained on all that
    are not, is asked about them as well.
    """

    split: str = "patient"
    fold_count: int = 5
    only: tuple[str, str] | None = None


def validate(
    data: Path, work: Path, recipe: Recipe, protocol: Protocol, classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Train `recipe` once per part of `protocol` and return its figures on films that were not trained on.

    Features are left in `work`, so that another recipe on the same backbone needn't compute them again. Nothing is
    published.

    Returns:
        `all`: figures over all parts, as `scripts.evaluate.metrics` gives them, without curves; `parts`: those of each
        part; with `only`, `elsewhere`: those on the films left aside; and what was done, to what.

    Raises:
        ScriptError: the data, the weights, the recipe or the protocol can't be used.
    """
    tf.config.experimental.enable_op_determinism()
    films = read_films(data)
    names = class_names(films, classes)
    labels = np.array([names.index(film.label) for film in films])
    chosen = selected(films, *protocol.only) if protocol.only else list(range(len(films)))
    if protocol.split in ("patient", "image"):
        parts = by_folds(films, chosen, protocol.fold_count, recipe.seed, by_patient=protocol.split == "patient")
    else:
        parts = leaving_out(films, chosen, protocol.split)
    fitter = _fitter(films, names, labels, recipe, work)
    answered = [_answered(fitter, films, names, labels, part) for part in parts]
    figures = {
        "protocol": asdict(protocol),
        "recipe": asdict(recipe),
        "weights": weights_provenance(recipe.backbone, recipe.weights),
        "data": {"sha256": digest(films), "films": len(chosen)},
        "all": summary(metrics(_joined(answered))),
        "parts": {part.name: _told(part, results) for part, results in zip(parts, answered, strict=True)},
    }
    if protocol.only is not None:
        aside = Part.without_patients("elsewhere", films, chosen, np.setdiff1d(np.arange(len(films)), chosen).tolist())
        if len(aside.test):
            figures["elsewhere"] = _told(aside, _answered(fitter, films, names, labels, aside))
    return figures


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


def _answered(fitter: Fitter, films: list[Film], names: tuple[str, ...], labels: np.ndarray, part: Part) -> Predictions:
    fitter.fit(part.train)
    return Predictions(
        films=[films[i] for i in part.test],
        classes=names,
        labels=labels[part.test],
        probabilities=fitter.probabilities(part.test),
        novelty=np.zeros(len(part.test), np.float32),
    )


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """All parts' answers as one, each calibrated by the others."""
    calibrated = cross_calibrated([(part.probabilities, part.labels) for part in parts])
    return Predictions(
        films=[film for part in parts for film in part.films],
        classes=parts[0].classes,
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate(calibrated),
        novelty=np.concatenate([part.novelty for part in parts]),
    )


def _told(part: Part, results: Predictions) -> dict[str, Any]:
    return {"trained_on": len(part.train), **summary(metrics(results))}
