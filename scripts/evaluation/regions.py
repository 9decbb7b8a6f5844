"""How much of the heat lies in the region that a model locates itself, such as the lungs, by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.arrays import UInt8Array
from app.artifact.manifest import RegionSpec
from app.artifact.runtimes.base import Runtime, split_rows
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.explain.cams import gradcam, normalise
from app.explain.regions import RegionShare, covered_box, covered_share, is_found, share_of_heat, ungated
from scripts.datasets.films import Film, patient_key, read_pixels
from scripts.datasets.images import network_input
from scripts.datasets.out_of_distribution import out_of_distribution_samples
from scripts.evaluation.predictions import Predictions
from scripts.evaluation.statistics import mean_by_patient, proportion

# Each costs an explanation.
MAX_FILMS_A_CLASS = 60
_BATCH = 8


def region_shares(runtime: Runtime, region: RegionSpec, pixels: UInt8Array) -> list[tuple[RegionShare, float]]:
    """Explain the predicted class of images `[N, H, W, C]` with Grad-CAM, and measure the heat inside the region.

    The heat is that before any gate multiplies it. The second value is the region's share of the cells.
    """
    shares = []
    for start in tqdm(range(0, len(pixels), _BATCH), desc="region", unit="batch"):
        batch = pixels[start : start + _BATCH]
        targets = np.zeros((len(batch), 1, len(runtime.manifest.classes)), np.float32)
        for one in split_rows(runtime.evidence(batch, targets)):
            assert one.regions is not None
            box = covered_box(runtime.manifest.feature_layer, one.box)
            found = is_found(region, one.regions, box)
            heatmap = normalise(gradcam(one.features, ungated(region, one.gradients)[0]))
            heat = share_of_heat(heatmap.values, one.regions) if found else None
            share = RegionShare(region.name, found, covered_share(one.regions, box), heat)
            shares.append((share, float(one.regions.mean())))
    return shares


def region_figures(models: Sequence[tuple[Path, Predictions]]) -> dict[str, Any] | None:
    """Measure the region of each model on the films of its predictions, and pool the results by class.

    Returns:
        In `classes`, by label, the share of films in which the region was `found`, and means by patient: the
        `share_of_heat`, the `share_of_image`, and the `share_of_cells`, the region's share of what the features cover,
        which is what the share of heat would be if the heat were spread evenly. In `elsewhere`, by kind, how often the
        region was found in images that are no chest films. None if the models have no region.
    """
    pooled: dict[str, list[tuple[Film, RegionShare, float]]] = {}
    elsewhere: dict[str, Any] = {}
    name = ""
    for number, (entry, predictions) in enumerate(models):
        runtime = TensorFlowRuntime(entry)
        region = runtime.manifest.region
        if region is None:
            return None
        name = region.name
        most = -(-MAX_FILMS_A_CLASS // len(models))
        order = np.random.default_rng(0).permutation(len(predictions.films)).tolist()
        for label in predictions.classes:
            films = [predictions.films[i] for i in order if predictions.films[i].label == label][:most]
            if films:
                shares = region_shares(runtime, region, read_pixels(films, runtime.manifest.input))
                pooled.setdefault(label, []).extend((film, *share) for film, share in zip(films, shares, strict=True))
        if number == 0:
            elsewhere = _found_elsewhere(runtime, region)
    return {"name": name, "classes": {label: _figures(pairs) for label, pairs in pooled.items()}, **elsewhere}


def _figures(pairs: Sequence[tuple[Film, RegionShare, float]]) -> dict[str, Any]:
    patients = [patient_key(film) for film, *_ in pairs]
    return {
        "found": proportion(sum(share.found for _, share, _ in pairs), len(pairs)),
        "share_of_heat": mean_by_patient([share.share_of_heat for _, share, _ in pairs], patients),
        "share_of_cells": mean_by_patient([cells for *_, cells in pairs], patients),
        "share_of_image": mean_by_patient([share.share_of_image for _, share, _ in pairs], patients),
    }


def _found_elsewhere(runtime: Runtime, region: RegionSpec) -> dict[str, Any]:
    spec, layer = runtime.manifest.input, runtime.manifest.feature_layer
    figures = {}
    for kind, pictures in out_of_distribution_samples().items():
        scores = runtime.predict(np.stack([network_input(picture, spec) for picture in pictures]))
        assert scores.regions is not None
        boxes = [None] * len(pictures) if scores.box is None else list(scores.box)
        found = [
            is_found(region, regions, covered_box(layer, box))
            for regions, box in zip(scores.regions, boxes, strict=True)
        ]
        figures[kind] = proportion(sum(found), len(found))
    return {"elsewhere": figures}
