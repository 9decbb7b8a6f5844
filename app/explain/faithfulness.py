"""Faithfulness of a heatmap: how the probability changes when hot cells are hidden or revealed. NumPy and Pillow only.

Deletion and insertion: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
2018, arXiv 1806.07421. Average drop and increase: Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063.

This module does not call the network: `plan` returns the images to score, and `judge` evaluates their probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from app.arrays import Float32Array, UInt8Array
from app.imaging.geometry import WHOLE, Box, Region
from app.imaging.grid import Window, cells_of, interpolation, visible_window

# At this level, one random result in twenty is called better. With fewer than 19 random maps, no result can be.
SIGNIFICANCE = 0.05
_Ranks = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PerturbationPlan:
    """The perturbed images whose probabilities judge one heatmap.

    `pixels` is the image, uint8 `[H, W, C]`. The cells of a map divide the part `region` of it, which can extend beyond
    the image, in pixels. `baseline` is the image with this part blurred by a Gaussian with a standard deviation of
    `sigma` pixels; hidden cells show the baseline. Pixels outside the part never change. The first of the 1 + R maps is
    the judged one, the others are random: `ranks` `[1 + R, h, w]` orders the cells from the hottest, 0, to the coldest,
    and `heat` `[1 + R, h, w]` is in 0..1. `counts` are the numbers of cells that are hidden or revealed at the points
    of a curve, from none to all.
    """

    pixels: UInt8Array
    region: Region
    baseline: UInt8Array
    sigma: float
    ranks: _Ranks
    heat: Float32Array
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """The number of images to score."""
        return cost(len(self.counts) - 1, len(self.ranks) - 1)

    def images(self) -> Iterator[UInt8Array]:
        """Yield the images to score, uint8 `[H, W, C]`, in the order in which `judge` expects their probabilities.

        First the image and the baseline. Then, for each map: the image with its hottest cells hidden, more at each
        step; the baseline with its hottest cells revealed, more at each step; and a blend of both, weighted by the
        heat.
        """
        yield self.pixels
        yield self.baseline
        for ranks, heat in zip(self.ranks, self.heat, strict=True):
            order = self._spread(ranks)
            for count in self.counts[1:-1]:
                yield np.where(order < count, self.baseline, self.pixels)
            for count in self.counts[1:-1]:
                yield np.where(order < count, self.pixels, self.baseline)
            yield self._blended(heat)

    def _spread(self, cells: _Ranks) -> _Ranks:
        """Return the value of the cell that contains the centre of each pixel, `[H, W, 1]`, and zeros outside."""
        left, top, right, bottom = self._window
        row = cells_of(cells.shape[0], self.region.top, self.region.height, range(top, bottom))
        column = cells_of(cells.shape[1], self.region.left, self.region.width, range(left, right))
        spread = np.zeros((*self.pixels.shape[:2], 1), np.intp)
        spread[top:bottom, left:right, 0] = cells[row[:, None], column[None, :]]
        return spread

    def _blended(self, heat: Float32Array) -> UInt8Array:
        """Return heat·image + (1 - heat)·baseline, with the heat upsampled bilinearly as in an overlay."""
        left, top, right, bottom = self._window
        down, across = interpolation(heat.shape, self.region, self._window)
        shown = np.zeros((*self.pixels.shape[:2], 1), np.float32)
        shown[top:bottom, left:right, 0] = down @ heat @ across.T
        mixed = shown * self.pixels.astype(np.float32) + (1 - shown) * self.baseline.astype(np.float32)
        return (mixed + 0.5).astype(np.uint8)

    @property
    def _window(self) -> Window:
        height, width = self.pixels.shape[:2]
        return visible_window(self.region, (width, height))


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of one map, or the means over several maps.

    `deletion` and `insertion` are the probabilities at each fraction of the plan, and `deletion_area` and
    `insertion_area` the areas under these curves, in 0..1. A faithful map has a small deletion area and a large
    insertion area. `average_drop` is the fraction of the probability that is lost when only the heat is shown.
    `average_increase` is 1 if the probability rises then and 0 otherwise, or the mean of that over several maps.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    deletion_area: float
    insertion_area: float
    average_drop: float
    average_increase: float

    @property
    def score(self) -> float:
        """Insertion area minus deletion area, in -1..1; maps are compared by it."""
        return self.insertion_area - self.deletion_area


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The metrics of a heatmap, compared with those of random maps on the same image.

    A random map is the heatmap shifted around the grid by a random number of cells and randomly mirrored, so that it
    has the same heat and the same smoothness. Under the null hypothesis that the location of the heat is irrelevant,
    the score of the heatmap is distributed as those of the random maps. `p_better` is the fraction of all scores,
    including its own, that are at least as high, and `p_worse` the fraction that are at most as high (a permutation
    test; Phipson and Smyth 2010). If one of them is at most 0.05, the heatmap is called better, or worse, than random.

    `fractions` are the fractions of cells at the points of the curves, `random` the means over the random maps,
    `random_deviation` the standard deviation of their scores, `sigma` the standard deviation of the blur in pixels of
    the network's input, and `images` the number of images that the model scored.
    """

    fractions: tuple[float, ...]
    heatmap: Figures
    random: Figures
    random_maps: int
    random_deviation: float
    p_better: float
    p_worse: float
    sigma: float
    images: int

    @property
    def better_than_random(self) -> bool:
        return self.p_better <= SIGNIFICANCE

    @property
    def worse_than_random(self) -> bool:
        return self.p_worse <= SIGNIFICANCE


def cost(steps: int, random_maps: int) -> int:
    """Return the number of images to score: two, and for each map two curves and a blend."""
    return 2 + (1 + random_maps) * (2 * (steps - 1) + 1)


def visible_cells(heatmap: Float32Array, height: int, width: int, box: Box) -> tuple[Float32Array, Region]:
    """Return the cells of `heatmap` that contain pixels of the input, and the region that they cover, in pixels.

    Rows and columns of cells are dropped where `box`, the part of the input that the heatmap covers, extends beyond the
    input, as that of a network with padding does.

    Args:
        heatmap: the map, `[h, w]`.
        height: the height of the input, in pixels.
        width: its width.
        box: the part of the input that the heatmap covers.
    """
    region = Region(0, 0, width, height).part(box)
    left, top, right, bottom = visible_window(region, (width, height))
    rows = cells_of(heatmap.shape[0], region.top, region.height, range(top, bottom))
    columns = cells_of(heatmap.shape[1], region.left, region.width, range(left, right))
    first, last = (int(rows[0]), int(columns[0])), (int(rows[-1]) + 1, int(columns[-1]) + 1)
    h, w = heatmap.shape
    part = region.part((first[1] / w, first[0] / h, last[1] / w, last[0] / h))
    return heatmap[first[0] : last[0], first[1] : last[1]], part


def plan(
    pixels: UInt8Array, heatmap: Float32Array, *, steps: int, random_maps: int, seed: int = 0, box: Box = WHOLE
) -> PerturbationPlan:
    """Plan which images to score to judge `heatmap`. Equal arguments give equal plans.

    Cells of equal heat are ranked in random order; a random map keeps that order. Only cells that contain pixels of the
    input are judged (`visible_cells`).

    Args:
        pixels: the input of the network, uint8 `[H, W, C]`.
        heatmap: the map to judge, `[h, w]` in 0..1, with heat in at least one cell that contains pixels.
        steps: the number of points of a curve, not counting the first; at least 2.
        random_maps: the number of random maps, at least 1. With fewer than 19, no map is called better or worse.
        seed: the seed of the random maps and of the order of equal cells.
        box: the part of the input that the heatmap covers.

    Raises:
        ValueError: if there are too few steps or random maps, or the heatmap has no heat in the input.
    """
    if steps < 2 or random_maps < 1:
        raise ValueError(f"at least 2 steps and 1 random map are needed, got {steps} and {random_maps}")
    height, width = pixels.shape[:2]
    heatmap, region = visible_cells(heatmap, height, width, box)
    if not heatmap.any():
        raise ValueError("an empty heatmap can't be judged")
    rng = np.random.default_rng(seed)
    ranks = np.empty(heatmap.size, np.intp)
    ranks[np.lexsort((rng.permutation(heatmap.size), -heatmap.ravel()))] = np.arange(heatmap.size)
    pairs = [(ranks.reshape(heatmap.shape), heatmap)]
    for _ in range(random_maps):
        shift = (int(rng.integers(heatmap.shape[0])), int(rng.integers(heatmap.shape[1])))
        mirror = tuple(axis for axis in (0, 1) if rng.integers(2))
        pairs.append((_moved(pairs[0][0], shift, mirror), _moved(heatmap, shift, mirror)))
    sigma = max(region.height / heatmap.shape[0], region.width / heatmap.shape[1])
    left, top, right, bottom = visible_window(region, (width, height))
    baseline = pixels.copy()
    baseline[top:bottom, left:right] = _blurred(pixels, sigma)[top:bottom, left:right]
    return PerturbationPlan(
        pixels=pixels,
        region=region,
        baseline=baseline,
        sigma=sigma,
        ranks=np.stack([moved for moved, _ in pairs]),
        heat=np.stack([moved for _, moved in pairs]).astype(np.float32),
        counts=tuple(round(step * heatmap.size / steps) for step in range(steps + 1)),
    )


def _moved(cells: np.ndarray, shift: tuple[int, int], mirror: tuple[int, ...]) -> np.ndarray:
    return np.roll(np.flip(cells, mirror), shift, axis=(0, 1))


def _blurred(pixels: UInt8Array, sigma: float) -> UInt8Array:
    """Blur `pixels` `[H, W, C]` by Pillow's Gaussian filter (three box blurs), which extends the edges."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).reshape(pixels.shape)


def judge(plan: PerturbationPlan, probabilities: Sequence[float] | Float32Array) -> Faithfulness:
    """Judge a heatmap by the probabilities of the images of its plan.

    Args:
        plan: the plan.
        probabilities: `[len(plan)]`, the probability of the explained class for each of `plan.images()`. If the map
            shows the evidence against a class, 1 minus its probability.

    Raises:
        ValueError: if the number of probabilities differs from that of the images.
    """
    answers = np.asarray(probabilities, np.float64)
    if answers.shape != (len(plan),):
        raise ValueError(f"{len(plan)} images were planned, but the probabilities have shape {answers.shape}")
    whole, hidden, steps = float(answers[0]), float(answers[1]), len(plan.counts) - 2
    fractions = np.array(plan.counts) / plan.counts[-1]
    found = [_figures(fractions, whole, hidden, rows, steps) for rows in answers[2:].reshape(len(plan.ranks), -1)]
    heatmap, others = found[0], found[1:]
    scores = np.array([figures.score for figures in others])
    return Faithfulness(
        fractions=tuple(fractions.tolist()),
        heatmap=heatmap,
        random=_mean(others),
        random_maps=len(others),
        random_deviation=float(scores.std()),
        p_better=float((1 + (scores >= heatmap.score).sum()) / (1 + len(scores))),
        p_worse=float((1 + (scores <= heatmap.score).sum()) / (1 + len(scores))),
        sigma=plan.sigma,
        images=len(plan),
    )


def _figures(fractions: np.ndarray, whole: float, hidden: float, answers: np.ndarray, steps: int) -> Figures:
    deletion = [whole, *answers[:steps].tolist(), hidden]
    insertion = [hidden, *answers[steps:-1].tolist(), whole]
    shown = float(answers[-1])
    return Figures(
        deletion=tuple(deletion),
        insertion=tuple(insertion),
        deletion_area=float(np.trapezoid(deletion, fractions)),
        insertion_area=float(np.trapezoid(insertion, fractions)),
        average_drop=max(0.0, whole - shown) / whole if whole > 0 else 0.0,
        average_increase=float(shown > whole),
    )


def _mean(several: Sequence[Figures]) -> Figures:
    return Figures(
        deletion=tuple(np.mean([figures.deletion for figures in several], axis=0).tolist()),
        insertion=tuple(np.mean([figures.insertion for figures in several], axis=0).tolist()),
        deletion_area=float(np.mean([figures.deletion_area for figures in several])),
        insertion_area=float(np.mean([figures.insertion_area for figures in several])),
        average_drop=float(np.mean([figures.average_drop for figures in several])),
        average_increase=float(np.mean([figures.average_increase for figures in several])),
    )
