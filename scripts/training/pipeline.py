"""Train a classifier by transfer learning, judge it by cross-validation, and publish it."""

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
from app.artifact.manifest import ANYTHING, Expectation, InputSpec, NoveltySpec
from scripts.datasets.films import Film, class_names, digest, folds, read_films, read_pixels
from scripts.evaluation.calibration import temperature_of, threshold_of
from scripts.evaluation.judgement import judge, run, summary
from scripts.exporting.packing import Judge, Package, pack
from scripts.exporting.split_model import SplitModel
from scripts.networks.backbones import BACKBONES, Network, round_to_half, weights_provenance
from scripts.networks.layers import Novelty
from scripts.training.augmentation import REVISION
from scripts.training.features import cache_features
from scripts.training.fitting import Fitter, fit_novelty, network_for, variants_of
from scripts.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is trained on: `labels` `[N]` are indices into `classes`; `parts` are the folds, as lists of indices."""

    films: list[Film]
    classes: tuple[str, ...]
    labels: np.ndarray
    parts: list[list[int]]
    digest: str


def train(
    data: Path,
    name: str,
    store: Path,
    work: Path,
    recipe: Recipe,
    *,
    classes: Sequence[str] | None = None,
    fold_count: int = 5,
    expects: Expectation = ANYTHING,
) -> Path:
    """Train on the films of `data` and return the new version's folder.

    First `fold_count` models are trained, each without one fold of the patients, and judged on that fold, so that every
    film is judged once by a model that never saw its patient. The model that is published is trained on all films; its
    temperature and its novelty threshold are fitted to the folds' answers, and its figures are theirs.

    A run that was interrupted goes on from what it left in `work`, if films and recipe are the same: the cached
    features and the folds' models. Until the run ends, nothing of it is in the store.

    Raises:
        ScriptError: the data, the weights or the recipe can't be used.
        ArtifactError: the name can't be used.
    """
    tf.config.experimental.enable_op_determinism()
    backbone = BACKBONES[recipe.backbone]
    corpus = _corpus(data, classes, fold_count, recipe.seed)
    scratch = work / _key(corpus, recipe)
    scratch.mkdir(parents=True, exist_ok=True)
    spec = InputSpec(height=backbone.size, width=backbone.size, channels=3, fit="crop", expects=expects)
    network = network_for(corpus.films, len(corpus.classes), recipe)
    cache = cache_features(network.frozen, corpus.films, spec, variants_of(recipe), scratch)
    trainer = _Trainer(Fitter(network, cache, corpus.films, corpus.labels, recipe), corpus, spec)
    entries = [trainer.fold(scratch, name, number) for number in range(1, fold_count + 1)]
    results = [run(entry, [corpus.films[i] for i in part]) for entry, part in zip(entries, corpus.parts, strict=True)]
    temperature = temperature_of(
        np.concatenate([part.probabilities for part in results]), np.concatenate([part.labels for part in results])
    )
    threshold = threshold_of(np.concatenate([part.novelty for part in results]))
    facts = _facts(corpus, recipe)

    def judged(entry: Path) -> dict[str, Any]:
        told = {"protocol": _protocol(fold_count), "data": facts["data"]}
        return summary(judge(entry / "report", entry, list(zip(entries, results, strict=True)), told))

    everything = np.arange(len(corpus.films))
    entry = trainer.publish(store, name, everything, temperature, threshold, facts, judged)
    shutil.rmtree(scratch)
    return entry


def _corpus(data: Path, classes: Sequence[str] | None, fold_count: int, seed: int) -> Corpus:
    films = read_films(data)
    names = class_names(films, classes)
    labels = np.array([names.index(film.label) for film in films])
    return Corpus(films, names, labels, folds(films, fold_count, seed), digest(films))


def _key(corpus: Corpus, recipe: Recipe) -> str:
    facts = json.dumps([corpus.digest, corpus.classes, len(corpus.parts), asdict(recipe), REVISION])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _protocol(fold_count: int) -> str:
    return (
        f"{fold_count}-fold cross-validation, no patient in two folds; temperature and novelty threshold of a fold are "
        "fitted to the other folds; the published model is trained on all films"
    )


class _Trainer:
    """Publishes what one network learns from one set of films after another."""

    def __init__(self, fitter: Fitter, corpus: Corpus, spec: InputSpec) -> None:
        self._fitter, self._corpus, self._spec = fitter, corpus, spec

    def fold(self, scratch: Path, name: str, number: int) -> Path:
        """The model that never saw fold `number`; trained unless an interrupted run has left it."""
        entry = scratch / name / str(number)
        if entry.exists():
            return entry
        rest = [i for other, part in enumerate(self._corpus.parts, start=1) if other != number for i in part]
        self.publish(scratch, name, np.array(sorted(rest)), 1.0, 1.0, None, None, version_number=number)
        tqdm.write(f"trained without fold {number} of {len(self._corpus.parts)}")
        return entry

    def publish(
        self,
        store: Path,
        name: str,
        indices: np.ndarray,
        temperature: float,
        threshold: float,
        facts: dict[str, Any] | None,
        judge: Judge | None,
        version_number: int | None = None,
    ) -> Path:
        """Train on the films of `indices` and write the artefact; `threshold` becomes the novelty score's unit."""
        self._fitter.fit(indices)
        novelty = fit_novelty(self._fitter.cache, indices)
        novelty.scale.assign(threshold)
        split = _assembled(self._fitter.network, novelty)
        for part in (split.trunk, split.head):
            round_to_half(part)
        package = Package(
            name=name,
            classes=self._corpus.classes,
            split=split,
            reference=_reference(split, temperature),
            fit=self._spec.fit,
            expects=self._spec.expects,
            temperature=temperature,
            novelty=NoveltySpec(method="mahalanobis", threshold=1.0),
            training=facts,
            judge=judge,
            training_images=None if judge is None else read_pixels(self._corpus.films, self._spec),
        )
        return pack(package, store, version_number)


def _assembled(network: Network, novelty: Novelty) -> SplitModel:
    image = keras.Input(network.frozen.input_shape[1:], name="image")
    cut = network.frozen(image)
    trunk = keras.Model(image, [network.tail(cut), novelty(cut)])
    return SplitModel(trunk, network.head, network.feature_layer)


def _reference(split: SplitModel, temperature: float) -> Any:
    def probabilities(images: UInt8Array) -> Float32Array:
        features, _ = split.trunk(images.astype(np.float32), training=False)
        logits = np.asarray(split.head(features, training=False), np.float64)
        return np.exp(log_softmax(logits / temperature, axis=-1)).astype(np.float32)

    return probabilities


def _facts(corpus: Corpus, recipe: Recipe) -> dict[str, Any]:
    weights = "file" if Path(recipe.weights).suffix else recipe.weights
    return {
        "data": {"sha256": corpus.digest, "films": len(corpus.films)},
        "split": {
            "by": "patient" if all(film.patient for film in corpus.films) else "patient where known, else film",
            "folds": [len(part) for part in corpus.parts],
        },
        "seed": recipe.seed,
        "backbone": recipe.backbone,
        "weights": weights_provenance(recipe.backbone, recipe.weights),
        "recipe": asdict(dataclasses.replace(recipe, weights=weights)),
        "libraries": {library: version(library) for library in ("tensorflow", "keras", "numpy", "pillow")},
    }
