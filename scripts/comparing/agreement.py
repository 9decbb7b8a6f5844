"""How far an explanation moved: measures of agreement between two heatmaps of one image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array
from scripts.evaluation.statistics import rank_correlation

# The hottest share of the cells, of which the overlap is measured.
HOTTEST = 0.2


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of two heatmaps; 1 in each measure is the same map.

    `rank_correlation`, -1..1, is Spearman's correlation of the cells, or None if a map has the same heat everywhere.
    `hottest_overlap`, 0..1, is the intersection over union (Jaccard 1912) of their hottest cells. Both follow Ghorbani
    et al., "Interpretation of Neural Networks Is Fragile", AAAI 2019, who also compare ranks and the most salient
    places. `shared_heat`, 0..1, is the histogram intersection (Swain and Ballard, "Color indexing", IJCV 7 (1991)
    11-32) of the maps, each divided by its sum: the share of the heat that lies where it lay. It is the measure SIM of
    Bylinskii et al., "What Do Different Evaluation Metrics Tell Us About Saliency Models?", IEEE TPAMI 41 (2019)
    740-757.
    """

    rank_correlation: float | None
    hottest_overlap: float
    shared_heat: float


def agreement(one: Float32Array, other: Float32Array) -> Agreement:
    """Measure the agreement of two heatmaps at the same places, `[cells]` each, of which neither is all zeros."""
    hot, other_hot = hottest(one), hottest(other)
    shares, other_shares = (values / values.sum(dtype=np.float64) for values in (one, other))
    return Agreement(
        rank_correlation=rank_correlation(one, other),
        hottest_overlap=float((hot & other_hot).sum() / (hot | other_hot).sum()),
        shared_heat=float(np.minimum(shares, other_shares).sum()),
    )


def hottest(heat: Float32Array) -> np.ndarray:
    """Return which cells are the hottest: a share of `HOTTEST`, bool `[cells]`.

    Cells that tie with the last of them are in as well; cells without heat never are.
    """
    count = math.ceil(HOTTEST * len(heat))
    return (heat >= np.sort(heat)[-count]) & (heat > 0)
