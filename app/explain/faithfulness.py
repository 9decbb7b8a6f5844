"""Is a heatmap true to the model? Hide and reveal what it marks, and watch the probability. NumPy and Pillow only.

Deletion and insertion: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC
2018, arXiv 1806.07421. Average drop and increase: Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063.

The network is not called here: `plan` says which images to score, and `judge` reads the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from app.arrays import Float32Array, UInt8Array

# At this level one chance result in twenty is called better; with fewer random maps than 19 none can be.
SIGNIFICANCE = 0.05
_Ranks = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PerturbationPlan:
    """Which images are to be scored to judge one heatmap.

    `pixels` and `baseline` are uint8 `[H, W, C]`, the image and what hides it: the image blurred by a Gaussian of
    standard deviation `sigma` pixels. Of the judged map (first) and the random ones, `ranks` `[1 + R, h, w]` order the
    cells from the hottest, 0, to the coldest, and `heat` `[1 + R, h, w]` is 0..1. `counts` are how many cells are
    hidden or revealed at each point of a curve, from none to all.
    """

    pixels: UInt8Array
    baseline: UInt8Array
    sigma: float
    ranks: _Ranks
    heat: Float32Array
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """How many images there are to score."""
        return cost(len(self.counts) - 1, len(self.ranks) - 1)

    def images(self) -> Iterator[UInt8Array]:
        """The images to score, uint8 `[H, W, C]`, in the order that `judge` expects the answers in.

        The image, and the image hidden; then for the map and for each random one: with its hottest cells hidden, more
        at each step; hidden but for its hottest cells, fewer hidden at each step; and shown as far as it is hot.
        """
        yield self.pixels
        yield self.baseline
        for ranks, heat in zip(self.ranks, self.heat, strict=True):
            order = self._spread(ranks)
            for count in self.counts[1:-1]:
                yield np.where(order < count, self.baseline, self.pixels)
            for count in self.counts[1:-1]:
                yield np.where(order < count, self.pixels, self.baseline)
            yield self._shown_by(heat)

    def _spread(self, cells: _Ranks) -> _Ranks:
        """The value of the cell that each pixel's centre lies in, `[H, W, 1]`: cells share the pixels out."""
        (height, width), (rows, columns) = self.pixels.shape[:2], cells.shape
        row = (np.arange(height) * 2 + 1) * rows // (2 * height)
        column = (np.arange(width) * 2 + 1) * columns // (2 * width)
        return cells[row[:, None], column[None, :]][..., None]

    def _shown_by(self, heat: Float32Array) -> UInt8Array:
        """heat·image + (1 - heat)·baseline, the heat upsampled as an overlay has it."""
        height, width = self.pixels.shape[:2]
        shown = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))[..., None]
        mixed = shown * self.pixels.astype(np.float32) + (1 - shown) * self.baseline.astype(np.float32)
        return (mixed + 0.5).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Figures:
    """How the probability follows one map, or on average several.

    `deletion` and `insertion` are the probabilities at each of the plan's fractions, `deletion_area` and
    `insertion_area` the areas under them, in 0..1: a true map has little of the first and much of the second.
    `average_drop` is the share of the probability that is lost where only the heat is shown, and `average_increase`
    whether (of several: how often) it rises.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    deletion_area: float
    insertion_area: float
    average_drop: float
    average_increase: float

    @property
    def score(self) -> float:
        """Insertion area less deletion area, -1..1: what maps are compared by."""
        return self.insertion_area - self.deletion_area


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How far a heatmap is to be believed about the model, beside the same for random maps on the same image.

    A random map is the heatmap itself somewhere else: shifted by a random number of cells around the grid, and
    mirrored or not, so that it has the same heat and is as smooth. If where the heat lies meant nothing, the heatmap's
    score would be one like theirs: `p_better` is the share of scores, its own included, that are as high or higher, and
    `p_worse` as low or lower (a permutation test; Phipson and Smyth 2010). At 0.05 or less the map is called better, or
    worse, than random.

    `fractions` are the shares of cells at the curves' points, `random` the random maps' means, `random_deviation` the
    standard deviation of their scores, `sigma` that of the blur in pixels of the network's input, and `images` how many
    the model had to score.
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
    """How many images a judgement has to score: two, and for the map and each random one two curves and one more."""
    return 2 + (1 + random_maps) * (2 * (steps - 1) + 1)


def plan(pixels: UInt8Array, heatmap: Float32Array, *, steps: int, random_maps: int, seed: int = 0) -> PerturbationPlan:
    """What to score to judge `heatmap` `[h, w]`, 0..1 and not empty, on the network's input `pixels` `[H, W, C]`.

    Cells of equal heat are taken in a random order, which moves along with the map. The same arguments give the same
    plan.

    Args:
        pixels: uint8, what the network saw.
        heatmap: the map to judge.
        steps: points of a curve after its first, at least 2.
        random_maps: to compare with, at least 1; of fewer than 19 no map is called better or worse.
        seed: of the random maps and of ties.

    Raises:
        ValueError: too few steps or maps, or an empty heatmap, of which there is nothing to judge.
    """
    if steps < 2 or random_maps < 1:
        raise ValueError(f"needs at least 2 steps and 1 random map; got {steps} and {random_maps}")
    if not heatmap.any():
        raise ValueError("the heatmap is empty: there is nothing to judge")
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
    """`pixels` `[H, W, C]` blurred by Pillow's Gaussian (three box blurs); the edges are continued."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).reshape(pixels.shape)


def judge(plan: PerturbationPlan, probabilities: Sequence[float] | Float32Array) -> Faithfulness:
    """What the answers to `plan.images()` say: `probabilities` `[len(plan)]` of the class that was explained.

    For a map of what speaks *against* a class, give 1 - p.

    Raises:
        ValueError: there are more or fewer answers than images.
    """
    answers = np.asarray(probabilities, np.float64)
    if answers.shape != (len(plan),):
        raise ValueError(f"{len(plan)} images were planned; there are answers of shape {answers.shape}")
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
