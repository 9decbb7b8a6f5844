"""The answers of two versions for the same films: probabilities, novelty, and heatmaps for the same class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Evidence, Runtime, split_rows
from app.errors import InputError
from app.explain.cams import gradcam, normalise
from scripts.comparing.agreement import Agreement, agreement
from scripts.comparing.placement import PlacedMap, heat_region, on_common_grid
from scripts.comparing.versions import check_comparable
from scripts.datasets.films import Film
from scripts.datasets.images import network_input, read_image
from scripts.errors import DataError

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an image in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class VersionAnswers:
    """The answers of one version for N films.

    `probabilities` `[N, classes]` are in the order of the first version's classes; `novelty` is `[N]`. `heatmaps` are
    the Grad-CAMs of the explained class of each film, and `own` those of this version's own most probable class.
    """

    manifest: Manifest
    probabilities: Float32Array
    novelty: Float32Array
    heatmaps: list[PlacedMap]
    own: list[PlacedMap]

    @property
    def top(self) -> np.ndarray:
        """The index of the most probable class, `[N]`."""
        return np.asarray(self.probabilities.argmax(axis=-1))

    def found(self, classes: Sequence[str]) -> np.ndarray:
        """Return the answers as sets of `classes`, bool `[N, classes]`: all from their threshold on, or the top one."""
        if self.manifest.task == "multi_label":
            return np.asarray(self.probabilities >= np.array([self.manifest.threshold(name) for name in classes]))
        return np.arange(len(classes)) == self.top[:, None]

    @property
    def novel(self) -> np.ndarray | None:
        """Whether each film is out of distribution, bool `[N]`, or None if the version has no novelty score."""
        spec = self.manifest.novelty
        return None if spec is None else np.asarray(self.novelty.astype(np.float64) > spec.threshold)


@dataclass(frozen=True, slots=True)
class ComparedAnswers:
    """The answers of two versions for `films`, of the given `sizes`.

    The class that both explain is the most probable one of the first version, `first.top`.
    """

    films: Sequence[Film]
    sizes: list[Size]
    classes: tuple[str, ...]
    first: VersionAnswers
    second: VersionAnswers

    @property
    def changed(self) -> np.ndarray:
        """Whether the answers differ, bool `[N]`."""
        return np.asarray((self.first.found(self.classes) != self.second.found(self.classes)).any(axis=-1))

    def grids(self, film: int, other_film: int | None = None) -> tuple[Float32Array, Float32Array]:
        """Return both heatmaps of `film` on their common grid, `[cells]` each.

        With `other_film`, the second version's heatmap is that of the other film, put where that of `film` lies.
        """
        second = self.second.heatmaps[film]
        if other_film is not None:
            second = PlacedMap(self.second.heatmaps[other_film].values, second.region)
        size = self.sizes[film]
        return on_common_grid(self.first.heatmaps[film], second, size.width, size.height)

    def agreement(self, film: int, other_film: int | None = None) -> Agreement | None:
        """Return the agreement of the heatmaps of `film`, or None if one of them is empty; see `grids`."""
        one, other = self.grids(film, other_film)
        return agreement(one, other) if one.any() and other.any() else None


def answer_films(first: Runtime, second: Runtime, films: Sequence[Film]) -> ComparedAnswers:
    """Ask both versions about `films`, as the service would.

    Raises:
        CompareError: the versions have different classes or tasks.
        DataError: some films can't be decoded; the message lists all of them.
    """
    check_comparable(first.manifest, second.manifest)
    classes = first.manifest.classes
    sizes: list[Size] = []
    collected = _Collected(first.manifest, classes), _Collected(second.manifest, classes)
    for batch_sizes, pixels, other_pixels in _batches(films, first.manifest, second.manifest):
        sizes += batch_sizes
        evidence = first.evidence(pixels, np.zeros((len(pixels), 1, len(classes)), np.float32))
        collected[0].add(evidence, batch_sizes, explained=0, own=0)
        targets = np.zeros((len(pixels), 2, len(classes)), np.float32)  # the explained class, and its own answer
        for row, top in enumerate(evidence.probabilities.argmax(axis=-1)):
            targets[row, 0, second.manifest.classes.index(classes[top])] = 1
        collected[1].add(second.evidence(other_pixels, targets), batch_sizes, explained=0, own=1)
    return ComparedAnswers(films, sizes, classes, *(each.answers() for each in collected))


class _Collected:
    """The answers of one version, batch by batch."""

    def __init__(self, manifest: Manifest, classes: Sequence[str]) -> None:
        self._manifest = manifest
        self._order = [manifest.classes.index(name) for name in classes]
        self._probabilities: list[Float32Array] = []
        self._novelty: list[Float32Array] = []
        self._heatmaps: list[PlacedMap] = []
        self._own: list[PlacedMap] = []

    def add(self, evidence: Evidence, sizes: Sequence[Size], *, explained: int, own: int) -> None:
        """Add a batch; `explained` and `own` say which of its targets these are."""
        self._probabilities.append(evidence.probabilities[:, self._order])
        self._novelty.append(evidence.novelty)
        for row, size in zip(split_rows(evidence), sizes, strict=True):
            region = heat_region(self._manifest, size.width, size.height, row.box)
            maps = [normalise(gradcam(row.features, gradient)).values for gradient in row.gradients]
            self._heatmaps.append(PlacedMap(maps[explained], region))
            self._own.append(PlacedMap(maps[own], region))

    def answers(self) -> VersionAnswers:
        return VersionAnswers(
            self._manifest,
            np.concatenate(self._probabilities),
            np.concatenate(self._novelty),
            self._heatmaps,
            self._own,
        )


def _batches(
    films: Sequence[Film], first: Manifest, second: Manifest
) -> Iterator[tuple[list[Size], UInt8Array, UInt8Array]]:
    """Yield the sizes of a batch of films, and their pixels for either version; each film is decoded once."""

    def read(film: Film) -> tuple[Size, UInt8Array, UInt8Array] | str:
        try:
            picture = read_image(film.path)
        except InputError as error:
            return f"{film.path}: {error}"
        pixels = network_input(picture, first.input)
        same = first.input == second.input
        return Size(picture.width, picture.height), pixels, pixels if same else network_input(picture, second.input)

    faults: list[str] = []
    with ThreadPoolExecutor() as pool, tqdm(total=len(films), desc="comparing", unit="film") as progress:
        for start in range(0, len(films), _BATCH):
            results = list(pool.map(read, films[start : start + _BATCH]))
            faults += [result for result in results if isinstance(result, str)]
            if not faults:  # after a fault, the others are only looked for
                sizes, pixels, other_pixels = zip(*(r for r in results if not isinstance(r, str)), strict=True)
                yield list(sizes), np.stack(pixels), np.stack(other_pixels)
            progress.update(len(results))
    if faults:
        raise DataError(f"{len(faults)} films can't be read:\n" + "\n".join(faults))
