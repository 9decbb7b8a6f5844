"""How well the novelty score separates films from out-of-distribution samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.arrays import Float32Array
from app.artifact.runtimes.base import Runtime
from app.imaging.picture import Picture
from scripts.datasets.films import Film, read_pixels
from scripts.datasets.images import network_input
from scripts.datasets.out_of_distribution import out_of_distribution_samples
from scripts.evaluation.statistics import auc, proportion

_BATCH = 16


def novelty_figures(runtime: Runtime, novelty: Float32Array, others: Sequence[Film] = ()) -> dict[str, Any]:
    """Compare the novelty scores of films with those of out-of-distribution samples.

    Args:
        runtime: scores the samples.
        novelty: the scores of films that the model was not trained on, `[N]`.
        others: films that belong to no class. They are a kind of their own, and not among the samples of the total.
    """
    manifest = runtime.manifest
    threshold = manifest.novelty.threshold if manifest.novelty else 1.0

    def score(pictures: Sequence[Picture]) -> Float32Array:
        return runtime.predict(np.stack([network_input(picture, manifest.input) for picture in pictures])).novelty

    scores = {kind: score(pictures) for kind, pictures in out_of_distribution_samples().items()}
    everything = np.concatenate(list(scores.values()))
    kinds = dict(scores)
    if others:
        pixels = read_pixels(others, manifest.input)
        starts = range(0, len(pixels), _BATCH)
        kinds["films of no class"] = np.concatenate([runtime.predict(pixels[s : s + _BATCH]).novelty for s in starts])
    return {
        "films_flagged": proportion(int((novelty > threshold).sum()), len(novelty)),
        "auc": auc(everything, novelty),
        "kinds": {
            kind: {"flagged": proportion(int((values > threshold).sum()), len(values)), "auc": auc(values, novelty)}
            for kind, values in kinds.items()
        },
    }
