"""`python -m scripts.evaluate`: what an artefact makes of a data folder, as figures and as a report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score
from tqdm import tqdm

from app.arrays import Float32Array
from app.artifact import read_manifest
from app.errors import ArtifactError
from app.runtimes.tensorflow import TensorFlowRuntime
from scripts.data import Film, digest, read_films, read_pixels
from scripts.errors import DataError, ScriptError
from scripts.report import write_films, write_report


@dataclass(frozen=True, slots=True)
class Results:
    """What a model answered to `films`.

    `labels` `[N]` are the true classes, `probabilities` `[N, classes]` and `novelty` `[N]` the answers.
    """

    films: Sequence[Film]
    classes: tuple[str, ...]
    labels: np.ndarray
    probabilities: Float32Array
    novelty: Float32Array

    @property
    def predicted(self) -> np.ndarray:
        """The index of the most probable class, `[N]`."""
        return np.asarray(self.probabilities.argmax(axis=-1))


def run(entry: Path, films: Sequence[Film]) -> Results:
    """What the artefact `entry`, as it is served, answers to `films`.

    Raises:
        DataError: the films' labels are not among the model's classes, or films can't be decoded.
        ArtifactError: the artefact is refused.
    """
    runtime = TensorFlowRuntime(entry)
    classes = runtime.manifest.classes
    if unknown := sorted({film.label for film in films} - set(classes)):
        raise DataError(f"the films have labels that the model does not know: {', '.join(unknown)}")
    pixels = read_pixels(films, runtime.manifest.input)
    starts = range(0, len(pixels), 16)
    scores = [runtime.predict(pixels[s : s + 16]) for s in tqdm(starts, desc="predicting", unit="batch")]
    return Results(
        films=films,
        classes=classes,
        labels=np.array([classes.index(film.label) for film in films]),
        probabilities=np.concatenate([batch.probabilities for batch in scores]),
        novelty=np.concatenate([batch.novelty for batch in scores]),
    )


def misclassified(results: Results) -> list[Film]:
    """The films that the model got wrong, those first of which it was most certain."""
    wrong = np.flatnonzero(results.predicted != results.labels)
    return [results.films[i] for i in wrong[np.argsort(-results.probabilities[wrong].max(axis=-1))]]


def write(out: Path, entry: Path, figures: dict[str, Any], wrong: Sequence[tuple[Path, list[Film]]]) -> None:
    """Write `metrics.json`, `report.html`, and into `films/` the `wrong` films of each artefact, with heatmaps.

    `films/` shows patients; it stays apart.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_report(out / "report.html", read_manifest(entry), figures)
    write_films(out / "films", [(TensorFlowRuntime(path), films) for path, films in wrong])


def metrics(results: Results) -> dict[str, Any]:
    """Accuracy, per-class figures, confusion matrix, per-source accuracy, each proportion with a 95 % interval."""
    right = results.predicted == results.labels
    every = range(len(results.classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        results.labels, results.predicted, labels=list(every), zero_division=0.0
    )
    return {
        "accuracy": proportion(int(right.sum()), len(right)),
        "classes": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "films": int(support[i]),
                "auc": one_against_rest(results, i),
            }
            for i, name in enumerate(results.classes)
        },
        "confusion": confusion_matrix(results.labels, results.predicted, labels=list(every)).tolist(),
        "calibration_error": calibration_error(results.probabilities, results.labels),
        "sources": {
            source or "unknown": proportion(int(right[at].sum()), int(at.sum()))
            for source in sorted({film.source for film in results.films})
            if (at := np.array([film.source == source for film in results.films])).any()
        },
    }


def proportion(count: int, total: int) -> dict[str, Any]:
    """A proportion with its Wilson score interval (Wilson 1927) at 95 %."""
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return {"value": count / total, "low": float(interval.low), "high": float(interval.high), "films": total}


def one_against_rest(results: Results, index: int) -> float | None:
    """Area under the ROC curve of one class against all others; None where the films hold only one of both."""
    positive = results.labels == index
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, results.probabilities[:, index]))


def calibration_error(probabilities: Float32Array, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal bins of the top probability (Naeini et al., AAAI 2015)."""
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[bin_of == b].mean() - confidence[bin_of == b].mean()) * (bin_of == b).mean() for b in set(bin_of)]
    return float(sum(gaps))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a version folder: model_store/NAME/VERSION")
    parser.add_argument("--data", type=Path, required=True, help="metadata.csv, or one sub-folder per class")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for the report")
    options = parser.parse_args(arguments)
    try:
        films = read_films(options.data)
        results = run(options.model, films)
        figures = {"data": {"sha256": digest(films), "films": len(films)}} | metrics(results)
        write(options.out, options.model, figures, [(options.model, misclassified(results))])
    except (ScriptError, ArtifactError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    accuracy = figures["accuracy"]
    print(
        f"accuracy {accuracy['value']:.3f} ({accuracy['low']:.3f}-{accuracy['high']:.3f}) on {accuracy['films']} films"
    )
    print(f"wrote {options.out / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
