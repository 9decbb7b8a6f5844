"""How well the novelty score separates films from out-of-distribution samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.arrays import Float32Array
from app.artifact.runtimes.base import Runtime
from app.imaging.picture import Picture
from scripts.datasets.images import network_input
from scripts.datasets.out_of_distribution import out_of_distribution_samples
from scripts.evaluation.statistics import auc, proportion


def novelty_figures(runtime: Runtime, novelty: Float32Array) -> dict[str, Any]:
    """Compare the novelty scores of films with those of out-of-distribution samples.

    `novelty` `[N]` are the scores of films that the model was not trained on; `runtime` scores the samples.
    """
    manifest = runtime.manifest
    threshold = manifest.novelty.threshold if manifest.novelty else 1.0

    def score(pictures: Sequence[Picture]) -> Float32Array:
        return runtime.predict(np.stack([network_input(picture, manifest.input) for picture in pictures])).novelty

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
