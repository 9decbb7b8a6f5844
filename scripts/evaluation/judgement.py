"""What a model answers to films, its figures, and the report on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_curve
from tqdm import tqdm

from app.arrays import Float32Array
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.imaging.decoding import to_input
from app.imaging.picture import Picture
from scripts.datasets.films import Film, person, read_pixels
from scripts.datasets.out_of_distribution import out_of_distribution_samples
from scripts.errors import DataError
from scripts.evaluation import robustness
from scripts.evaluation.calibration import cross_calibrated, cross_scaled
from scripts.evaluation.comparison import compare
from scripts.evaluation.report import write_report
from scripts.evaluation.statistics import auc, calibration_error, mean_of, proportion, reliability

# A changed film costs a prediction: controls that ask about many changes take this many films of each part.
CONTROL_FILMS = 120


@dataclass(frozen=True, slots=True)
class Predictions:
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

    @property
    def right(self) -> np.ndarray:
        """Whether that is the true one, `[N]`."""
        return np.asarray(self.predicted == self.labels)


def run(entry: Path, films: Sequence[Film]) -> Predictions:
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
    return Predictions(
        films=films,
        classes=classes,
        labels=np.array([classes.index(film.label) for film in films]),
        probabilities=np.concatenate([batch.probabilities for batch in scores]),
        novelty=np.concatenate([batch.novelty for batch in scores]),
    )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The answers of several fold models as one, each calibrated, and its novelty scaled, by the other folds."""
    return Predictions(
        films=[film for part in parts for film in part.films],
        classes=parts[0].classes,
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate(cross_calibrated([(part.probabilities, part.labels) for part in parts])),
        novelty=np.concatenate(cross_scaled([part.novelty for part in parts])),
    )


def metrics(results: Predictions) -> dict[str, Any]:
    """Accuracy, per-class and per-source figures, curves; each proportion with a 95 % interval."""
    every = list(range(len(results.classes)))
    precision, recall, f1, support = precision_recall_fscore_support(
        results.labels, results.predicted, labels=every, zero_division=0.0
    )
    right = results.right
    return {
        "accuracy": proportion(int(right.sum()), len(right)),
        "classes": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "films": int(support[i]),
                **_one_against_rest(results, i),
            }
            for i, name in enumerate(results.classes)
        },
        "confusion": confusion_matrix(results.labels, results.predicted, labels=every).tolist(),
        "calibration_error": calibration_error(results.probabilities, results.labels),
        "reliability": reliability(results.probabilities, results.labels),
        "sources": _by_source(results),
    }


def _one_against_rest(results: Predictions, index: int) -> dict[str, Any]:
    positive, called = results.labels == index, results.predicted == index
    scores = results.probabilities[:, index]
    figures: dict[str, Any] = {
        "sensitivity": proportion(int((called & positive).sum()), int(positive.sum())),
        "specificity": proportion(int((~called & ~positive).sum()), int((~positive).sum())),
        "auc": _area(results, scores, positive, ~positive),
    }
    if positive.any() and not positive.all():
        false_rate, true_rate, _ = roc_curve(positive, scores)
        at = np.linspace(0, len(false_rate) - 1, min(len(false_rate), 100)).astype(int)
        figures["roc"] = [[round(float(false_rate[i]), 4), round(float(true_rate[i]), 4)] for i in at]
    return figures


def _by_source(results: Predictions) -> dict[str, Any]:
    """Within each source: accuracy, and how each class is told from the first one, which source alone can't do."""
    first = results.classes[0]
    figures = {}
    for source in sorted({film.source for film in results.films}):
        at = np.array([film.source == source for film in results.films])
        counts = {name: int((at & (results.labels == i)).sum()) for i, name in enumerate(results.classes)}
        areas = {
            f"{name} against {first}": _area(
                results, results.probabilities[:, i], at & (results.labels == i), at & (results.labels == 0)
            )
            for i, name in enumerate(results.classes)
            if i and counts[name] and counts[first]
        }
        if len(areas) > 1:
            areas[f"any other against {first}"] = _area(
                results, -results.probabilities[:, 0], at & (results.labels > 0), at & (results.labels == 0)
            )
        figures[source or "unknown"] = {
            "accuracy": proportion(int(results.right[at].sum()), int(at.sum())),
            "films": counts,
            "auc": areas,
        }
    return figures


def _area(results: Predictions, scores: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> dict[str, Any]:
    """How well `scores` `[N]` tell the films of one mask `[N]` from those of the other."""
    persons = np.array([person(film) for film in results.films])
    return auc(scores[positive], scores[negative], (persons[positive].tolist(), persons[negative].tolist()))


def novelty_figures(runtime: TensorFlowRuntime, novelty: Float32Array) -> dict[str, Any]:
    """How well the novelty score tells films from what is none; `novelty` `[N]` is that of films not trained on."""
    spec, threshold = runtime.manifest.input, runtime.manifest.novelty.threshold if runtime.manifest.novelty else 1.0

    def score(pictures: Sequence[Picture]) -> Float32Array:
        pixels = [
            to_input(
                picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit, resize=spec.resize
            )
            for picture in pictures
        ]
        return runtime.predict(np.stack(pixels)).novelty

    scores = {kind: score(pictures) for kind, pictures in out_of_distribution_samples().items()}
    everything = np.concatenate(list(scores.values()))
    return {
        "films_flagged": proportion(int((novelty > threshold).sum()), len(novelty)),
        "auc": auc(everything, novelty),
        "kinds": {
            kind: {"flagged": proportion(int((values > threshold).sum()), len(values)), "auc": auc(values, novelty)}
            for kind, values in scores.items()
        },
    }


def robustness_figures(parts: Sequence[tuple[Path, Predictions]]) -> dict[str, Any]:
    """The controls of `scripts.evaluation.robustness`, each part's model asked about the part's own films."""
    changes: dict[str, list[np.ndarray]] = {name: [] for name in robustness.HARMLESS}
    rims: dict[str, list[np.ndarray]] = {"border": [], "corners": []}
    whole, painted, attention, sources = [], [], [], []
    for entry, results in parts:
        runtime = TensorFlowRuntime(entry)
        chosen = np.random.default_rng(0).permutation(len(results.films))[:CONTROL_FILMS]
        films, labels = [results.films[i] for i in chosen], results.labels[chosen]
        for name, changed in robustness.changed_answers(runtime, films).items():
            changes[name].append(changed)
        pixels = read_pixels(films, runtime.manifest.input)
        for name, corners in (("border", False), ("corners", True)):
            rims[name].append(robustness.only_rim(runtime, pixels, corners=corners) == labels)
        masked = [i for i, film in enumerate(results.films) if film.mask is not None]
        if masked:
            lungs = [results.films[i] for i in masked]
            whole.append(results.right[masked])
            painted.append(robustness.without_lungs(runtime, lungs) == results.labels[masked])
            attention += robustness.lung_attention(runtime, lungs)
        sources.append(robustness.source_recall(runtime, films, pixels))
    return {
        "changed_answers": {name: _share(found) for name, found in changes.items()},
        "only": {name: _share(found) for name, found in rims.items()},
        "masked_films": {"accuracy": _share(whole), "without_lungs": _share(painted)},
        "lung_attention": {
            label: {
                "heat_inside": mean_of([one.heat_inside for one in attention if one.film.label == label]),
                "lungs": mean_of([one.lungs for one in attention if one.film.label == label]),
            }
            for label in sorted({one.film.label for one in attention})
        },
        "source_recall": {
            label: float(np.mean([found[label] for found in sources if label in found]))
            for label in sorted({label for found in sources for label in found})
        },
        "randomised": _randomised(*parts[0]),
    }


def _share(found: Sequence[np.ndarray]) -> dict[str, Any]:
    values = np.concatenate(found) if found else np.zeros(0, bool)
    return proportion(int(values.sum()), len(values))


def _randomised(entry: Path, results: Predictions) -> list[tuple[int, float]]:
    runtime = TensorFlowRuntime(entry)
    return robustness.cascading_randomisation(runtime, read_pixels(list(results.films[:8]), runtime.manifest.input))


def judge(out: Path, entry: Path, parts: Sequence[tuple[Path, Predictions]], facts: dict[str, Any]) -> dict[str, Any]:
    """Measure everything, write `metrics.json`, `report.html` and the gallery into `out`, and return the figures.

    Args:
        out: the report's folder. `out/films/` shows patients; it stays apart.
        entry: the artefact that the report is about.
        parts: one or more artefacts with their answers to films that they were not trained on: `entry` itself, or the
            models of a cross-validation.
        facts: what the data was and how it was split, to be said with the figures.
    """
    results = joined([part for _, part in parts]) if len(parts) > 1 else parts[0][1]
    figures: dict[str, Any] = {**facts, **metrics(results)}
    runtime = TensorFlowRuntime(entry)
    if runtime.manifest.novelty is not None:
        figures["novelty"] = novelty_figures(runtime, results.novelty)
    figures["controls"] = robustness_figures(parts)
    # Of a cross-validation the first part is enough: methods are compared with one another, on the same films.
    first, answered = parts[0]
    figures["methods"] = compare(TensorFlowRuntime(first), answered.films)
    write_report(out, runtime.manifest, figures, [(path, _mistakes(part)) for path, part in parts])
    return figures


def _mistakes(results: Predictions) -> list[Film]:
    """The films that the model got wrong, those first of which it was most certain."""
    wrong = np.flatnonzero(~results.right)
    return [results.films[i] for i in wrong[np.argsort(-results.probabilities[wrong].max(axis=-1))]]


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures without their curves: what a manifest holds."""
    classes = {
        name: {key: value for key, value in row.items() if key != "roc"} for name, row in figures["classes"].items()
    }
    return {key: value for key, value in figures.items() if key != "reliability"} | {"classes": classes}
