"""The predictions of a model for labelled films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.arrays import Float32Array
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.datasets.films import Film, read_pixels
from scripts.errors import DataError
from scripts.evaluation.calibration import cross_calibrated, cross_scaled

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of a model for `films`.

    `labels` `[N]` are the indices of the true classes in `classes`; `probabilities` `[N, classes]` and `novelty` `[N]`
    are the outputs of the model.
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
    def correct(self) -> np.ndarray:
        """Whether the most probable class is the true one, `[N]`."""
        return np.asarray(self.predicted == self.labels)


def predict_films(entry: Path, films: Sequence[Film]) -> Predictions:
    """Predict `films` with the artefact `entry`, as the service would.

    Raises:
        DataError: a label of the films is not a class of the model, or some films can't be decoded.
        ArtifactError: the artefact can't be loaded.
    """
    runtime = TensorFlowRuntime(entry)
    classes = runtime.manifest.classes
    labels = class_indices(films, classes)
    pixels = read_pixels(films, runtime.manifest.input)
    starts = range(0, len(pixels), _BATCH)
    scores = [runtime.predict(pixels[s : s + _BATCH]) for s in tqdm(starts, desc="predicting", unit="batch")]
    return Predictions(
        films=films,
        classes=classes,
        labels=labels,
        probabilities=np.concatenate([batch.probabilities for batch in scores]),
        novelty=np.concatenate([batch.novelty for batch in scores]),
    )


def class_indices(films: Sequence[Film], classes: Sequence[str]) -> np.ndarray:
    """Return the index of the label of each film in `classes`, `[N]`.

    Raises:
        DataError: a label is not among `classes`.
    """
    if unknown := sorted({film.label for film in films} - set(classes)):
        raise DataError(f"the films have labels that are not classes of the model: {', '.join(unknown)}")
    return np.array([classes.index(film.label) for film in films])


def pool_predictions(folds: Sequence[Predictions], *, scale_novelty: bool = True) -> Predictions:
    """Concatenate the predictions of several fold models.

    The probabilities of each fold are calibrated on the other folds. With `scale_novelty`, the novelty scores of each
    fold are divided by the threshold of the other folds.
    """
    novelty = [fold.novelty for fold in folds]
    return Predictions(
        films=[film for fold in folds for film in fold.films],
        classes=folds[0].classes,
        labels=np.concatenate([fold.labels for fold in folds]),
        probabilities=np.concatenate(cross_calibrated([(fold.probabilities, fold.labels) for fold in folds])),
        novelty=np.concatenate(cross_scaled(novelty) if scale_novelty else novelty),
    )
