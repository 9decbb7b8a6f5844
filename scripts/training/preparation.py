"""What precedes every fit: read the films, train the lung segmenter, compute the features of the frozen part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from scripts.datasets.collection import Collection, Selection, read_collection
from scripts.datasets.films import Film, class_names, digest
from scripts.errors import DataError
from scripts.networks.segmenter import lung_segmenter
from scripts.training.augmentation import REVISION
from scripts.training.features import cache_features
from scripts.training.fitting import Fitter, network_for, variants_of
from scripts.training.recipe import Recipe
from scripts.training.segmentation import SegmentationRecipe, fit_segmenter


@dataclass(frozen=True, slots=True)
class Prepared:
    """Films with their features, and the fitter of a recipe.

    `films` are all films with a label of a class, `labels` `[N]` their indices in `classes`, and `chosen` the indices
    of those that may be trained on. `digest` identifies all films, and the masks of a segmenter.
    """

    collection: Collection
    films: list[Film]
    classes: tuple[str, ...]
    labels: np.ndarray
    chosen: np.ndarray
    digest: str
    fitter: Fitter


def prepare(selection: Selection, classes: Sequence[str] | None, recipe: Recipe, work: Path) -> Prepared:
    """Read the films of `selection`, and compute their features for `recipe`.

    The segmenter and the features stay in `work`, so that other runs with the same films and backbone reuse them. The
    segmenter is trained once, on all masks; it sees no labels.

    Raises:
        DataError: the films can't be used, or there are too few masks to find the lungs first.
        WeightsError: the weights of the backbone are not available.
    """
    collection = read_collection(selection)
    films = [*collection.films, *collection.excluded]
    names = class_names(films, classes)
    labels = np.array([names.index(film.label) for film in films])
    segmenter, facts = None, [digest(films), recipe.backbone, recipe.weights, REVISION]
    if recipe.lungs_first:
        segmenter, key = _segmenter(collection.masked, recipe, work)
        facts.append(key)
    network = network_for(films, len(names), recipe, segmenter)
    identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    scratch = work / f"features-{identity[:16]}"
    scratch.mkdir(parents=True, exist_ok=True)
    cache = cache_features(network, films, variants_of(recipe), scratch)
    chosen = np.arange(len(collection.films))
    return Prepared(collection, films, names, labels, chosen, identity, Fitter(network, cache, films, labels, recipe))


def _segmenter(masked: Sequence[Film], recipe: Recipe, work: Path) -> tuple[keras.Model, str]:
    """Train the segmenter, or read it from `work`; returns it with a name for what determines it."""
    if len(masked) < recipe.least_masks:
        raise DataError(f"--lungs-first needs {recipe.least_masks} films with a lung mask; there are {len(masked)}")
    how = SegmentationRecipe(recipe.segmenter_variants, recipe.segmenter_epochs, seed=recipe.seed)
    files = sorted(path.read_bytes() for film in masked if (path := film.mask) is not None)
    masks = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in files)).hexdigest()
    key = hashlib.sha256(json.dumps([digest(masked), masks, repr(how), REVISION]).encode()).hexdigest()[:16]
    path = work / f"segmenter-{key}.weights.h5"
    if path.exists():
        segmenter = lung_segmenter(how.seed)
        segmenter.load_weights(path)
        return segmenter, key
    tqdm.write(f"training the lung segmenter on {len(masked)} masks")
    segmenter = fit_segmenter(masked, how)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    segmenter.save_weights(partial)
    partial.rename(path)
    return segmenter, key
