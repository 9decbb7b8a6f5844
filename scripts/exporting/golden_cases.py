"""Self-checks that an artefact carries: golden cases, a sanity check, and the thresholds of warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import (
    HeatThresholds,
    Manifest,
    RegionSpec,
    SanitySpec,
    SelfTestSpec,
    WarningThresholds,
)
from app.artifact.runtimes.base import Evidence, Runtime, split_rows
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.explain.cams import METHODS, Method, normalise
from app.explain.regions import covered_box, is_found, share_of_heat, ungated
from app.explain.warnings import border_share, diffuseness, margin
from app.imaging.geometry import Box
from app.serving.self_test import GoldenCases, capture_golden, write_golden
from scripts.evaluation.robustness import cascading_randomisation

GOLDEN = "golden.npz"
CASES = 4
# One answer in twenty lies beyond each threshold.
QUANTILE = 0.95
# With this many images, the share beyond a threshold is accurate to about one per cent (binomial standard deviation).
THRESHOLD_IMAGES = 500
# GPUs may multiply in TF32, which has mantissas of ten bits. docs/explanations.md gives the differences that result,
# and those that other weights cause.
PROBABILITY_TOLERANCE = 0.005
RELATIVE_TOLERANCE = 0.02
# Smooth maps of four pictures correlate by chance too; maps that are independent of the weights correlate by 1.
SANITY_LIMIT = 0.5
_BATCH = 16


def golden_pictures(height: int, width: int, channels: int, *, count: int = CASES) -> UInt8Array:
    """Draw pictures of coloured shapes, the same in every call: uint8 `[count, height, width, channels]`."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        picture = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
        draw = ImageDraw.Draw(picture)
        for number in range(12):
            left, right = np.sort(rng.uniform(0, width, 2))
            top, bottom = np.sort(rng.uniform(0, height, 2))
            shape = draw.ellipse if number % 2 else draw.rectangle
            shape((left, top, right, bottom), fill=tuple(rng.integers(0, 256, 3).tolist()))
        pixels = np.asarray(picture.convert("L") if channels == 1 else picture)
        pictures.append(pixels.reshape(height, width, channels))
    return np.stack(pictures)


def record_golden_cases(runtime: Runtime) -> GoldenCases:
    """Record the answers of `runtime` to generated pictures, with the maps of the class that it predicts for each."""
    spec, classes = runtime.manifest.input, len(runtime.manifest.classes)
    images = golden_pictures(spec.height, spec.width, spec.channels)
    predicted = runtime.predict(images).probabilities.argmax(axis=-1)
    return capture_golden(runtime, images, np.eye(classes, dtype=np.float32)[predicted])


def warning_thresholds(runtime: Runtime, pixels: UInt8Array) -> tuple[WarningThresholds, RegionSpec | None]:
    """Measure the quantiles, for each CAM method, beyond which an answer is unusual for training images.

    Args:
        runtime: the model.
        pixels: the training images `[N, H, W, C]`; if there are more than `THRESHOLD_IMAGES`, a random sample is used.

    Returns:
        The thresholds, and the region of the manifest with its thresholds on heat, measured where it was found.
    """
    pixels = pixels[np.sort(np.random.default_rng(0).permutation(len(pixels))[:THRESHOLD_IMAGES])]
    region = runtime.manifest.region
    margins: list[float | None] = []
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    shares: dict[str, list[float]] = {name: [] for name in METHODS}
    for start in tqdm(range(0, len(pixels), _BATCH), desc="thresholds", unit="batch"):
        batch = pixels[start : start + _BATCH]
        evidence = runtime.evidence(batch, np.zeros((len(batch), 1, len(runtime.manifest.classes)), np.float32))
        if runtime.manifest.task == "single_label":  # the labels of a multi-label model don't compete
            margins += [margin(row) for row in evidence.probabilities]
        for one in split_rows(evidence):
            box = covered_box(runtime.manifest.feature_layer, one.box)
            for name, method in METHODS.items():
                heatmap = normalise(method(one.features, one.gradients[0]))
                if not heatmap.empty:
                    figures[name].append((border_share(heatmap.values, box), diffuseness(heatmap.values)))
                if region is not None and (share := _share_in_region(region, method, one, box)) is not None:
                    shares[name].append(share)
    known = [value for value in margins if value is not None]
    thresholds = WarningThresholds(
        quantile=QUANTILE,
        films=len(pixels),
        low_margin=float(np.quantile(known, 1 - QUANTILE)) if known else None,
        heat={name: _heat_thresholds(found) for name, found in figures.items() if found},
    )
    lowest = {name: float(np.quantile(found, 1 - QUANTILE)) for name, found in shares.items() if found}
    return thresholds, region and region.model_copy(update={"min_share_of_heat": lowest})


def _share_in_region(region: RegionSpec, method: Method, evidence: Evidence, box: Box) -> float | None:
    """Return the share of the heat of one image in its region, or None if there is no heat or the region isn't found.

    `evidence` has no batch axis, and one target.
    """
    assert evidence.regions is not None
    if not is_found(region, evidence.regions, box):
        return None
    heatmap = normalise(method(evidence.features, ungated(region, evidence.gradients)[0]))
    return share_of_heat(heatmap.values, evidence.regions)


def _heat_thresholds(found: list[tuple[float, float]]) -> HeatThresholds:
    border, diffuse = np.quantile(found, QUANTILE, axis=0)
    return HeatThresholds(border_heat=float(border), diffuse_heat=float(diffuse))


class EdgeDetector(TensorFlowRuntime):
    """The control of the sanity check: its map shows the edges of the image, and is independent of the weights.

    It predicts as the artefact does, and its weights can be randomised.
    """

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        """Return the edges as features `[B, h, w, 1]`, with a gradient of 1 everywhere, so that Grad-CAM returns them.

        Probabilities, logits and novelty are zeros.
        """
        layer, classes = self.manifest.feature_layer, len(self.manifest.classes)
        features = np.stack([_edges(image, layer.height, layer.width) for image in images])[..., None]
        gradients = np.ones((len(images), targets.shape[1], *features.shape[1:]), np.float32)
        zeros = np.zeros((len(images), classes), np.float32)
        return Evidence(zeros, zeros, features, gradients, zeros[:, 0])


def _edges(image: UInt8Array, height: int, width: int) -> Float32Array:
    """Return the mean magnitude of the brightness gradient in each cell of the grid, `[height, width]`."""
    down, across = np.gradient(image.mean(axis=-1))
    lengths = Image.fromarray(np.hypot(down, across).astype(np.float32))
    return np.asarray(lengths.resize((width, height), Image.Resampling.BOX))


def check_sanity(entry: Path) -> SanitySpec:
    """Randomise the weights of `entry` from the top down, and record how its maps and the edge detector's change.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. The maps are those of the golden pictures.
    """
    outcomes = []
    for kind in (TensorFlowRuntime, EdgeDetector):
        runtime = kind(entry)
        spec = runtime.manifest.input
        pictures = golden_pictures(spec.height, spec.width, spec.channels)
        found = cascading_randomisation(runtime, pictures)
        outcomes.append(tuple(round(correlation, 4) for _, correlation in found))
    correlations, control = outcomes
    return SanitySpec(cases=CASES, correlations=correlations, control=control, limit=SANITY_LIMIT)


def add_golden_cases(entry: Path, training_images: UInt8Array | None = None) -> Manifest:
    """Write golden cases into the sealed `entry`, and return its manifest with all self-checks, to be sealed again.

    With `training_images` `[N, H, W, C]`, the thresholds of warnings are measured as well; otherwise those in the
    manifest are kept.

    Raises:
        ArtifactError: if the entry can't be loaded.
    """
    runtime = TensorFlowRuntime(entry)
    golden = record_golden_cases(runtime)
    checks: dict[str, object] = {
        "self_test": SelfTestSpec(
            file=GOLDEN,
            cases=len(golden.images),
            probability_tolerance=PROBABILITY_TOLERANCE,
            relative_tolerance=RELATIVE_TOLERANCE,
        ),
        "sanity": check_sanity(entry),
    }
    if training_images is not None:
        checks["cautions"], checks["region"] = warning_thresholds(runtime, training_images)
    write_golden(entry / GOLDEN, golden)
    return runtime.manifest.model_copy(update=checks)
