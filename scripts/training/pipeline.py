"""Train a classifier by transfer learning, evaluate it by cross-validation, and publish it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import log_softmax
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import ANYTHING, Expectation, InputSpec, NoveltySpec, RegionSpec
from scripts.datasets.collection import Selection
from scripts.datasets.films import Film, digest, patient_folds, read_pixels
from scripts.datasets.splits import TrainTestSplit
from scripts.evaluation.calibration import temperature_of, threshold_of
from scripts.evaluation.metrics import without_curves
from scripts.evaluation.pipeline import Depth, evaluate_models
from scripts.evaluation.predictions import Predictions, predict_films
from scripts.evaluation.source import source_alone
from scripts.exporting.golden_cases import THRESHOLD_IMAGES
from scripts.exporting.packing import Evaluator, Package, Reference, pack
from scripts.exporting.split_model import SplitModel
from scripts.networks.backbones import Network, round_to_half, weights_provenance
from scripts.networks.layers import Novelty
from scripts.training.augmentation import REVISION
from scripts.training.features import batch_indices, input_spec
from scripts.training.fitting import Fitter, fit_novelty
from scripts.training.preparation import Prepared, prepare
from scripts.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The films of a training run.

    `labels` `[N]` are indices into `classes`, and `folds` are the indices of the films in each fold. `digest`
    identifies the films.
    """

    films: list[Film]
    classes: tuple[str, ...]
    labels: np.ndarray
    folds: list[list[int]]
    digest: str


def train(
    selection: Selection,
    name: str,
    store: Path,
    work: Path,
    recipe: Recipe,
    *,
    classes: Sequence[str] | None = None,
    fold_count: int = 5,
    expects: Expectation = ANYTHING,
    depth: Depth = "full",
) -> Path:
    """Train on the films of `selection`, and return the folder of the new version.

    First, `fold_count` models are trained, each without one fold of the patients, and evaluated on that fold, so that
    every film is tested by a model that never saw its patient. The published model is trained on all films. Its
    temperature and its novelty threshold are fitted on the predictions of the fold models, whose figures it reports.

    If a run with the same films and recipe was interrupted, it resumes from the cached features and the fold models in
    `work`. The features stay there, for other recipes with the same frozen part; the fold models are removed. The store
    receives nothing before the run is complete.

    Args:
        selection: the data folders, and which of their films are used.
        name: the name of the model in the store.
        store: the folder of the model store.
        work: the folder for the intermediate results of the run.
        recipe: the settings of the training.
        classes: the class names in the order of the logits; by default, sorted.
        fold_count: the number of folds of the cross-validation.
        expects: what the header of a DICOM image is expected to say; by default, anything.
        depth: of the report. For `figures`, the fold models are not written as artefacts; their predictions come from
            the cached features.

    Raises:
        ScriptError: the data, the weights or the recipe can't be used.
        ArtifactError: the name can't be used.
    """
    tf.config.experimental.enable_op_determinism()
    prepared = prepare(selection, classes, recipe, work)
    training_data = _training_data(prepared, fold_count, recipe.seed)
    films, folds = training_data.films, training_data.folds
    scratch = work / _run_key(training_data, recipe)
    scratch.mkdir(parents=True, exist_ok=True)
    trainer = _Trainer(prepared.fitter, training_data, input_spec(prepared.fitter.network, expects))
    numbers = range(1, fold_count + 1)
    if depth == "figures":
        entries = []
        predictions = [trainer.predict_fold(number) for number in numbers]
    else:
        entries = [trainer.train_fold(scratch, name, number) for number in numbers]
        predictions = [
            predict_films(entry, [films[i] for i in fold]) for entry, fold in zip(entries, folds, strict=True)
        ]
    temperature = temperature_of(
        np.concatenate([fold.probabilities for fold in predictions]),
        np.concatenate([fold.labels for fold in predictions]),
    )
    threshold = threshold_of(np.concatenate([fold.novelty for fold in predictions]))
    facts = _training_facts(training_data, recipe)

    def evaluate(entry: Path) -> dict[str, Any]:
        splits = [TrainTestSplit.by_patient("", films, sorted(set(range(len(films))) - set(f)), f) for f in folds]
        reported = {
            "protocol": _describe_protocol(fold_count),
            "data": facts["data"],
            "source_alone": source_alone(films, training_data.labels, splits),
        }
        models = list(zip(entries or [entry] * fold_count, predictions, strict=True))
        figures = evaluate_models(
            entry / "report", entry, models, reported, others=prepared.collection.others, depth=depth
        )
        return without_curves(figures)

    entry = trainer.publish(store, name, np.arange(len(films)), temperature, threshold, facts, evaluate)
    shutil.rmtree(scratch)
    return entry


def _training_data(prepared: Prepared, fold_count: int, seed: int) -> TrainingData:
    """Return the films that may be trained on, which are the first ones of `prepared`, and their folds."""
    films = [prepared.films[i] for i in prepared.chosen]
    folds = patient_folds(films, fold_count, seed)
    return TrainingData(films, prepared.classes, prepared.labels[prepared.chosen], folds, digest(films))


def _run_key(data: TrainingData, recipe: Recipe) -> str:
    """Return a name for the intermediate results that changes with everything that determines them."""
    facts = json.dumps([data.digest, data.classes, len(data.folds), asdict(recipe), REVISION])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _describe_protocol(fold_count: int) -> str:
    return (
        f"{fold_count}-fold cross-validation, no patient in two folds; temperature and novelty threshold of a fold are "
        "fitted to the other folds; the published model is trained on all films"
    )


class _Trainer:
    """Trains one network on one set of films after another, and writes each result as an artefact."""

    def __init__(self, fitter: Fitter, data: TrainingData, spec: InputSpec) -> None:
        self._fitter, self._data, self._spec = fitter, data, spec

    def train_fold(self, scratch: Path, name: str, number: int) -> Path:
        """Return the artefact trained without fold `number`; an interrupted run may have left it."""
        entry = scratch / name / str(number)
        if entry.exists():
            return entry
        self.publish(scratch, name, self._without(number), 1.0, 1.0, None, None, version_number=number)
        tqdm.write(f"trained without fold {number} of {len(self._data.folds)}")
        return entry

    def predict_fold(self, number: int) -> Predictions:
        """Train without fold `number`, and predict its films from the cached features."""
        data, rest = self._data, self._without(number)
        fold = np.array(data.folds[number - 1])
        self._fitter.fit(rest)
        novelty = fit_novelty(self._fitter.cache, rest)
        cuts = self._fitter.cache.cuts[0]
        scores = [
            novelty(tf.constant(cuts[fold[at]].astype(np.float32))).numpy()
            for at in batch_indices(len(fold), 64, "novelty")
        ]
        tqdm.write(f"trained without fold {number} of {len(data.folds)}")
        return Predictions(
            films=[data.films[i] for i in fold],
            classes=data.classes,
            labels=data.labels[fold],
            probabilities=self._fitter.probabilities(fold),
            novelty=np.concatenate(scores),
        )

    def _without(self, number: int) -> np.ndarray:
        """Return the indices of the films that are not in fold `number`, ascending."""
        return np.array(
            sorted(i for other, fold in enumerate(self._data.folds, start=1) if other != number for i in fold)
        )

    def publish(
        self,
        store: Path,
        name: str,
        indices: np.ndarray,
        temperature: float,
        threshold: float,
        facts: dict[str, Any] | None,
        evaluator: Evaluator | None,
        version_number: int | None = None,
    ) -> Path:
        """Train on the films with the given `indices`, and write the artefact.

        The novelty scores are divided by `threshold`.
        """
        self._fitter.fit(indices)
        novelty = fit_novelty(self._fitter.cache, indices)
        novelty.scale.assign(threshold)
        parts = _split_model(self._fitter.network, novelty)
        for part in (parts.trunk, parts.head):
            round_to_half(part)
        finds_lungs = self._fitter.network.view is not None
        package = Package(
            name=name,
            classes=self._data.classes,
            parts=parts,
            reference=_reference(parts, temperature),
            fit=self._spec.fit,
            expects=self._spec.expects,
            box=finds_lungs,
            region=RegionSpec(name="lungs", min_share_of_image=0.0) if finds_lungs else None,
            temperature=temperature,
            novelty=NoveltySpec(method="mahalanobis", threshold=1.0),
            training=facts,
            evaluator=evaluator,
            training_images=None if evaluator is None else self._threshold_images(),
            self_checks=evaluator is not None,
        )
        return pack(package, store, version_number)

    def _threshold_images(self) -> UInt8Array:
        """Read a random sample of the films, on which the thresholds of warnings are measured."""
        order = np.random.default_rng(0).permutation(len(self._data.films))[:THRESHOLD_IMAGES]
        return read_pixels([self._data.films[i] for i in sorted(order.tolist())], self._spec)


def _split_model(network: Network, novelty: Novelty) -> SplitModel:
    image = keras.Input(network.input_shape, name="image")
    if network.view is None:
        cut = network.frozen(image)
        trunk = keras.Model(image, [network.tail(cut), novelty(cut)])
        return SplitModel(trunk, network.head, network.feature_layer)
    seen, box, lungs = network.view(image)
    cut = network.frozen(seen)
    features = network.tail(cut)
    cell = lungs.shape[1] // features.shape[1]
    shares = keras.layers.Reshape(features.shape[1:3], name="regions")(
        keras.layers.AveragePooling2D(cell, name="cells")(lungs)
    )
    return SplitModel(keras.Model(image, [features, novelty(cut), box, shares]), network.head, network.feature_layer)


def _reference(parts: SplitModel, temperature: float) -> Reference:
    def probabilities(images: UInt8Array) -> Float32Array:
        features, *_ = parts.trunk(images.astype(np.float32), training=False)
        logits = np.asarray(parts.head(features, training=False), np.float64)
        return np.exp(log_softmax(logits / temperature, axis=-1)).astype(np.float32)

    return probabilities


def _training_facts(data: TrainingData, recipe: Recipe) -> dict[str, Any]:
    """Return what the manifest says about the training."""
    weights = "file" if Path(recipe.weights).suffix else recipe.weights
    return {
        "data": {"sha256": data.digest, "films": len(data.films)},
        "split": {
            "by": "patient" if all(film.patient for film in data.films) else "patient where known, else film",
            "folds": [len(fold) for fold in data.folds],
        },
        "seed": recipe.seed,
        "backbone": recipe.backbone,
        "weights": weights_provenance(recipe.backbone, recipe.weights),
        "recipe": asdict(dataclasses.replace(recipe, weights=weights)),
        "libraries": {library: version(library) for library in ("tensorflow", "keras", "numpy", "pillow")},
    }
