"""Evaluation of a multi-label model: each class separately, with its own threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.arrays import Float32Array
from app.artifact.runtimes.base import Runtime
from scripts.datasets.films import Film, digest, patient_key, read_pixels
from scripts.errors import DataError
from scripts.evaluation.report import write_multi_label_report
from scripts.evaluation.statistics import auc, proportion

# The separator of labels, and the labels of images without findings, follow the tables of NIH ChestX-ray14.
SEPARATOR = "|"
NOTHING = ("", "No Finding")
_BATCH = 16


def evaluate_multi_label(runtime: Runtime, films: Sequence[Film], out: Path) -> dict[str, Any]:
    """Evaluate `runtime` on `films`, and write `metrics.json` and `report.html` into the folder `out`.

    The label of a film lists its positive classes, separated by `|`. An empty label or `No Finding` means none.

    Returns:
        The content of `metrics.json`: the mean AUC, and for each class the AUC with a bootstrap interval over patients,
        sensitivity and specificity at the threshold, and the number of films.

    Raises:
        DataError: if a label is not a class of the model, or if some films can't be decoded.
    """
    manifest = runtime.manifest
    truth = label_matrix(films, manifest.classes)
    pixels = read_pixels(films, manifest.input)
    starts = tqdm(range(0, len(pixels), _BATCH), desc="predicting", unit="batch")
    probabilities = np.concatenate([runtime.predict(pixels[s : s + _BATCH]).probabilities for s in starts])
    patients = [patient_key(film) for film in films]
    classes = {
        name: class_figures(truth[:, i], probabilities[:, i], manifest.threshold(name), patients)
        for i, name in enumerate(manifest.classes)
    }
    areas = [figures["auc"]["value"] for figures in classes.values() if figures["auc"]["value"] is not None]
    figures = {
        "data": {"sha256": digest(films), "films": len(films)},
        "task": manifest.task,
        "mean_auc": float(np.mean(areas)) if areas else None,
        "no_label": int((~truth.any(axis=1)).sum()),
        "classes": classes,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_multi_label_report(out, manifest, figures)
    return figures


def label_matrix(films: Sequence[Film], classes: Sequence[str]) -> np.ndarray:
    """Return the positive classes of each film, bool `[N, classes]`.

    Raises:
        DataError: if a label is not among `classes`.
    """
    named = [{label.strip() for label in film.label.split(SEPARATOR)} - (set(NOTHING) - set(classes)) for film in films]
    if unknown := sorted(set().union(*named) - set(classes)):
        raise DataError(f"the films have labels that are not classes of the model: {', '.join(unknown)}")
    return np.array([[name in labels for name in classes] for labels in named], bool)


def class_figures(
    truth: np.ndarray, probabilities: Float32Array, threshold: float, patients: Sequence[str]
) -> dict[str, Any]:
    """Compute the figures of one class from the true labels, bool `[N]`, and the probabilities, `[N]`."""
    found = probabilities >= threshold
    positive, negative = ([p for p, is_in in zip(patients, at, strict=True) if is_in] for at in (truth, ~truth))
    return {
        "films": int(truth.sum()),
        "threshold": threshold,
        "auc": auc(probabilities[truth], probabilities[~truth], (positive, negative)),
        "sensitivity": proportion(int((found & truth).sum()), int(truth.sum())),
        "specificity": proportion(int((~found & ~truth).sum()), int((~truth).sum())),
    }
