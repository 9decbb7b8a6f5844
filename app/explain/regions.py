"""Regions: how much of the heat lies in the organ that a model locates in the image. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array
from app.artifact.manifest import FeatureLayer, RegionSpec
from app.imaging.geometry import Box, Region
from app.imaging.grid import overlaps


@dataclass(frozen=True, slots=True)
class RegionShare:
    """The region `name` in one image, and how much of the heat of a map lies in it.

    `share_of_image` is the share of the image that the region covers, and `found` says whether the model found it.
    `share_of_heat` is None if it did not, or if the map is empty. Shares are in 0..1.
    """

    name: str
    found: bool
    share_of_image: float
    share_of_heat: float | None


def covered_box(layer: FeatureLayer, box: Float32Array | None) -> Box:
    """Return the part of the input that the features of one image cover.

    Args:
        layer: the feature layer.
        box: the model's own answer for the image, `[4]`, or None if the model has none.

    Raises:
        FloatingPointError: if the answer is not a box in the input: finite, left of right, top of bottom, and not
            outside.
    """
    if box is None:
        return layer.box
    left, top, right, bottom = (float(edge) for edge in box)
    if not (np.isfinite(box).all() and left < right and top < bottom and Region(left, top, right, bottom).meets(1, 1)):
        raise FloatingPointError(f"the box that the model answers has no extent in its input: {box.tolist()}")
    return left, top, right, bottom


def covered_share(regions: Float32Array, box: Box) -> float:
    """Return the share of an image that a region covers, 0..1.

    Args:
        regions: the share of each cell that belongs to the region, `[h, w]`.
        box: the part of the image that the cells cover; what lies outside the image does not count.
    """
    left, top, right, bottom = box
    height, width = regions.shape
    down = overlaps(height, top, bottom, 1)[:, 0] * (bottom - top) / height  # the share of the image's height
    across = overlaps(width, left, right, 1)[:, 0] * (right - left) / width
    return float(down @ regions @ across)


def is_found(spec: RegionSpec, regions: Float32Array, box: Box) -> bool:
    """Return whether the region `[h, w]` was found in an image whose cells cover the part `box` of the input."""
    return covered_share(regions, box) > spec.min_share_of_image


def share_of_heat(values: Float32Array, regions: Float32Array) -> float | None:
    """Return the share of the heat `[h, w]` that lies in the region `[h, w]`, or None without heat."""
    total = float(values.sum(dtype=np.float64))
    return float((values.astype(np.float64) * regions).sum()) / total if total > 0 else None


def ungated(spec: RegionSpec, gradients: Float32Array) -> Float32Array:
    """Return gradients `[..., h, w, K]` that no gate has shaped.

    A gate in the head multiplies the gradient in each cell, and with it the maps of methods that use it cell by cell.
    Its mean over the grid, which Grad-CAM uses, has no place. Without a gate the gradients are returned as they are.
    """
    if not spec.gated:
        return gradients
    mean = gradients.mean(axis=(-3, -2), keepdims=True, dtype=np.float64)
    return np.broadcast_to(mean, gradients.shape).astype(np.float32)


def region_share(
    spec: RegionSpec, values: Float32Array, regions: Float32Array, box: Box, image_box: Box
) -> RegionShare:
    """Measure how much of the heat of one image lies in its region.

    Args:
        spec: the region.
        values: the heat, `[h, w]`, which no gate has shaped.
        regions: the share of each cell that belongs to the region, `[h, w]`.
        box: the part of the input that the cells cover.
        image_box: the part of the original image that they cover.
    """
    found = is_found(spec, regions, box)
    return RegionShare(
        name=spec.name,
        found=found,
        share_of_image=covered_share(regions, image_box),
        share_of_heat=share_of_heat(values, regions) if found else None,
    )
