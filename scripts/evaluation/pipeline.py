"""The complete evaluation of a model on labelled films: figures, report, and a gallery of misclassified films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.films import Film, digest, read_films
from scripts.evaluation.comparison import compare_methods
from scripts.evaluation.metrics import compute_metrics
from scripts.evaluation.novelty import novelty_figures
from scripts.evaluation.predictions import Predictions, pool_predictions, predict_films
from scripts.evaluation.report import write_report
from scripts.evaluation.robustness import robustness_figures


def evaluate_artifact(entry: Path, data: Path, out: Path) -> dict[str, Any]:
    """Evaluate the artefact `entry` on the films of the folder `data`; see `evaluate_models`.

    Raises:
        DataError: the data folder can't be used, or a label is not a class of the model.
        ArtifactError: the artefact can't be loaded.
    """
    films = read_films(data)
    facts = {"data": {"sha256": digest(films), "films": len(films)}}
    return evaluate_models(out, entry, [(entry, predict_films(entry, films))], facts)


def evaluate_models(
    out: Path, entry: Path, models: Sequence[tuple[Path, Predictions]], facts: dict[str, Any]
) -> dict[str, Any]:
    """Compute all figures, and write `metrics.json`, `report.html` and the gallery into the folder `out`.

    Args:
        out: the folder of the report. `out/films/` shows patients, and is not distributed with the model.
        entry: the artefact that the report describes.
        models: one or more artefacts, each with its predictions for films that it was not trained on: either `entry`
            itself, or the models of a cross-validation.
        facts: the data and how it was split, to be reported with the figures.

    Returns:
        The content of `metrics.json`.
    """
    predictions = pool_predictions([fold for _, fold in models]) if len(models) > 1 else models[0][1]
    figures: dict[str, Any] = {**facts, **compute_metrics(predictions)}
    runtime = TensorFlowRuntime(entry)
    if runtime.manifest.novelty is not None:
        figures["novelty"] = novelty_figures(runtime, predictions.novelty)
    figures["controls"] = robustness_figures(models)
    # The methods are compared on the same films, so the first model of a cross-validation is enough.
    first, tested = models[0]
    figures["methods"] = compare_methods(TensorFlowRuntime(first), tested.films)
    write_report(out, runtime.manifest, figures, [(path, _misclassified(fold)) for path, fold in models])
    return figures


def _misclassified(predictions: Predictions) -> list[Film]:
    """Return the misclassified films, the most confident mistakes first."""
    wrong = np.flatnonzero(~predictions.correct)
    return [predictions.films[i] for i in wrong[np.argsort(-predictions.probabilities[wrong].max(axis=-1))]]
