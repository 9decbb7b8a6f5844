"""The complete evaluation of a model on labelled films: figures, report, and a gallery of misclassified films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.collection import Selection, read_collection
from scripts.datasets.films import Film, digest
from scripts.evaluation.comparison import compare_methods
from scripts.evaluation.metrics import compute_metrics
from scripts.evaluation.multi_label import evaluate_multi_label
from scripts.evaluation.novelty import novelty_figures
from scripts.evaluation.predictions import Predictions, pool_predictions, predict_films
from scripts.evaluation.regions import region_figures
from scripts.evaluation.report import write_report
from scripts.evaluation.robustness import robustness_figures

# How much of an evaluation is done; see `evaluate_models`.
Depth = Literal["full", "figures"]


def evaluate_artifact(entry: Path, selection: Selection, out: Path, depth: Depth = "full") -> dict[str, Any]:
    """Evaluate the artefact `entry` on the films of `selection`.

    See `evaluate_models`, and for multi-label models `evaluate_multi_label`.

    Raises:
        DataError: the data folders can't be used, or a label is not a class of the model.
        ArtifactError: the artefact can't be loaded.
    """
    collection = read_collection(selection)
    films = collection.films
    runtime = TensorFlowRuntime(entry)
    if runtime.manifest.task == "multi_label":
        return evaluate_multi_label(runtime, films, out)
    facts = {"data": {"sha256": digest(films), "films": len(films)}}
    models = [(entry, predict_films(entry, films))]
    return evaluate_models(out, entry, models, facts, others=collection.others, depth=depth)


def evaluate_models(
    out: Path,
    entry: Path,
    models: Sequence[tuple[Path, Predictions]],
    facts: dict[str, Any],
    *,
    others: Sequence[Film] = (),
    depth: Depth = "full",
) -> dict[str, Any]:
    """Compute all figures, and write `metrics.json`, `report.html` and the gallery into the folder `out`.

    Args:
        out: the folder of the report. `out/films/` shows patients, and is not distributed with the model.
        entry: the artefact that the report describes.
        models: one or more artefacts, each with its predictions for films that it was not trained on: either `entry`
            itself, or the models of a cross-validation.
        facts: the data and how it was split, to be reported with the figures.
        others: films that belong to no class, on which the novelty score is tested.
        depth: `figures` computes what follows from the predictions, and the novelty. `full` adds the robustness checks,
            the heat inside the region, the comparison of CAM methods, and the heatmaps of misclassified films, which
            together cost some ten thousand predictions.

    Returns:
        The content of `metrics.json`.
    """
    predictions = pool_predictions([fold for _, fold in models]) if len(models) > 1 else models[0][1]
    figures: dict[str, Any] = {**facts, **compute_metrics(predictions)}
    runtime = TensorFlowRuntime(entry)
    if runtime.manifest.novelty is not None:
        figures["novelty"] = novelty_figures(runtime, predictions.novelty, others)
    misclassified: list[tuple[Path, list[Film]]] = []
    if depth == "full":
        figures["controls"] = robustness_figures(models)
        if (regions := region_figures(models)) is not None:
            figures["regions"] = regions
        # The methods are compared on the same films, so the first model of a cross-validation is enough.
        first, tested = models[0]
        figures["methods"] = compare_methods(TensorFlowRuntime(first), tested.films)
        misclassified = [(path, _misclassified(fold)) for path, fold in models]
    write_report(out, runtime.manifest, figures, misclassified)
    return figures


def _misclassified(predictions: Predictions) -> list[Film]:
    """Return the misclassified films, the most confident mistakes first."""
    wrong = np.flatnonzero(~predictions.correct)
    return [predictions.films[i] for i in wrong[np.argsort(-predictions.probabilities[wrong].max(axis=-1))]]
