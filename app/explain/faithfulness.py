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

# At this level, one random result in twenty is called better. With fewer than 19 random maps, no result can be.
SIGNIFICANCE = 0.05
_Ranks = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PerturbationPlan:
    """The perturbed images whose probabilities judge one heatmap.

    `pixels` is the image, uint8 `[H, W, C]`, and `baseline` the same blurred by a Gaussian with a standard deviation of
    `sigma` pixels; hidden cells show the baseline. The first of the 1 + R maps is the judged one, the others are
    random: `ranks` `[1 + R, h, w]` orders the cells from the hottest, 0, to the coldest, and `heat` `[1 + R, h, w]` is
    in 0..1. `counts` are the numbers of cells that are hidden or revealed at the points of a curve, from none to all.
    """

    pixels: UInt8Array
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
        """Return the value of the cell that contains the centre of each pixel, `[H, W, 1]`."""
        (height, width), (rows, columns) = self.pixels.shape[:2], cells.shape
        row = (np.arange(height) * 2 + 1) * rows // (2 * height)
        column = (np.arange(width) * 2 + 1) * columns // (2 * width)
        return cells[row[:, None], column[None, :]][..., None]

    def _blended(self, heat: Float32Array) -> UInt8Array:
        """Return heat·image + (1 - heat)·baseline, with the heat upsampled bilinearly as in an overlay."""
        height, width = self.pixels.shape[:2]
        shown = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))[..., None]
        mixed = shown * self.pixels.astype(np.float32) + (1 - shown) * self.baseline.astype(np.float32)
        return (mixed + 0.5).astype(np.uint8)


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


def plan(pixels: UInt8Array, heatmap: Float32Array, *, steps: int, random_maps: int, seed: int = 0) -> PerturbationPlan:
    """Plan which images to score to judge `heatmap`. Equal arguments give equal plans.

    Cells of equal heat are ranked in random order; a random map keeps that order.

    Args:
        pixels: the input of the network, uint8 `[H, W, C]`.
        heatmap: the map to judge, `[h, w]` in 0..1, not empty.
        steps: the number of points of a curve, not counting the first; at least 2.
        random_maps: the number of random maps, at least 1. With fewer than 19, no map is called better or worse.
        seed: the seed of the random maps and of the order of equal cells.

    Raises:
        ValueError: if there are too few steps or random maps, or the heatmap is empty.
    """
    if steps < 2 or random_maps < 1:
        raise ValueError(f"at least 2 steps and 1 random map are needed, got {steps} and {random_maps}")
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
    sigma = max(pixels.shape[0] / heatmap.shape[0], pixels.shape[1] / heatmap.shape[1])
    return PerturbationPlan(
        pixels=pixels,
        baseline=_blurred(pixels, sigma),
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
