"""What the source of a film alone says about its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.datasets.films import Film
from scripts.datasets.splits import TrainTestSplit
from scripts.evaluation.statistics import proportion


def source_alone(films: Sequence[Film], labels: np.ndarray, splits: Sequence[TrainTestSplit]) -> dict[str, Any]:
    """Predict each tested film from its source alone, and return how often that is right.

    The prediction is the most frequent label of the source among the films that the split trains on, and for a source
    that is not among them, the most frequent label of all. A classifier that recognises the source, and sees nothing
    else, can be this good.

    Returns:
        `accuracy` with an interval, and `balanced`, the mean over the labels of the share that is predicted correctly.
    """
    truth, guessed = [], []
    for split in splits:
        everything = Counter(labels[split.train].tolist())
        by_source: dict[str, Counter[int]] = {}
        for i in split.train:
            by_source.setdefault(films[i].source, Counter())[int(labels[i])] += 1
        for i in split.test:
            truth.append(int(labels[i]))
            guessed.append(by_source.get(films[i].source, everything).most_common(1)[0][0])
    correct = np.array(truth) == np.array(guessed)
    recalls = [correct[np.array(truth) == label].mean() for label in sorted(set(truth))]
    return {"accuracy": proportion(int(correct.sum()), len(correct)), "balanced": float(np.mean(recalls))}
