"""Heatmaps of two versions in the same image: where each lies, and both on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from app.arrays import Float32Array
from app.artifact.manifest import Manifest
from app.explain.regions import covered_box
from app.imaging.geometry import Region, seen_region

# Cells per side of the common grid, where a version sees only a tiny part of the image.
MAX_CELLS = 256


@dataclass(frozen=True, slots=True)
class PlacedMap:
    """A heatmap `[h, w]`, 0..1, and the region of the image that its cells divide evenly."""

    values: Float32Array
    region: Region


def heat_region(manifest: Manifest, width: int, height: int, box: Float32Array | None) -> Region:
    """Return the region of a `width` x `height` image that the features of a model cover, in pixels of the image.

    `box` `[4]` is the model's own answer for the image, or None if it has none; see `covered_box`.
    """
    spec = manifest.input
    region = seen_region(width, height, spec.width, spec.height, spec.fit)
    return region.part(covered_box(manifest.feature_layer, box))


def on_common_grid(one: PlacedMap, other: PlacedMap, width: int, height: int) -> tuple[Float32Array, Float32Array]:
    """Return the heat of two maps at the same places of a `width` x `height` image, `[cells]` each.

    The grid covers the part of the image that either map covers, with cells as small as the smaller ones of the two.
    Heat is interpolated bilinearly between the centres of cells, as in an overlay, and is 0 where a map does not reach;
    places that neither reaches are left out. If the maps have the same cells, the grid is these cells.
    """
    x_places = _places(
        max(min(one.region.left, other.region.left), 0),
        min(max(one.region.right, other.region.right), width),
        min(_cell_width(one), _cell_width(other)),
    )
    y_places = _places(
        max(min(one.region.top, other.region.top), 0),
        min(max(one.region.bottom, other.region.bottom), height),
        min(_cell_height(one), _cell_height(other)),
    )
    (heat, reached), (other_heat, other_reached) = (_heat_at(each, x_places, y_places) for each in (one, other))
    seen = reached | other_reached
    return heat[seen], other_heat[seen]


def _cell_width(one: PlacedMap) -> float:
    return one.region.width / one.values.shape[1]


def _cell_height(one: PlacedMap) -> float:
    return one.region.height / one.values.shape[0]


def _places(start: float, stop: float, size: float) -> np.ndarray:
    """Return the centres of cells of about `size` that divide `start`..`stop` evenly."""
    count = min(max(round((stop - start) / size), 1), MAX_CELLS)
    return start + (np.arange(count) + 0.5) * (stop - start) / count


def _heat_at(one: PlacedMap, x_places: np.ndarray, y_places: np.ndarray) -> tuple[Float32Array, np.ndarray]:
    """Return the heat at places in the image, and whether the map reaches them: `[rows, columns]` each."""
    region = one.region
    # In cells from the first one's centre; rounded, because a centre that is missed by a rounding error takes a little
    # of the neighbouring cell, which breaks the ties between cells without heat.
    x = np.round((x_places - region.left) / _cell_width(one) - 0.5, 6)
    y = np.round((y_places - region.top) / _cell_height(one) - 0.5, 6)
    heat = map_coordinates(one.values, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
    inside_x = (x_places >= region.left) & (x_places <= region.right)
    inside_y = (y_places >= region.top) & (y_places <= region.bottom)
    reached = inside_y[:, None] & inside_x[None, :]
    return np.where(reached, heat, np.float32(0)), reached
