"""The self-test of a loaded model: replays the golden cases that were recorded at its export."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest, SanitySpec, SelfTestSpec
from app.artifact.runtimes.base import Runtime
from app.errors import SelfTestError
from app.explain.cams import gradcam

_DIMENSIONS = {"images": 4, "targets": 2, "probabilities": 2, "logits": 2, "novelty": 1, "maps": 3}
_OPTIONAL = {"box": 2, "regions": 3}


@dataclass(frozen=True, slots=True)
class GoldenCases:
    """N images and the outputs of a model for them.

    `images` is uint8 `[N, H, W, C]`; `targets` float32 `[N, classes]`, the one-hot class that each map explains;
    `probabilities` and `logits` float32 `[N, classes]`; `novelty` float32 `[N]`; `maps` float32 `[N, h, w]`, Grad-CAM
    before its ReLU, in units of the score. `box` `[N, 4]` and `regions` `[N, h, w]` are None if the model lacks them.
    """

    images: UInt8Array
    targets: Float32Array
    probabilities: Float32Array
    logits: Float32Array
    novelty: Float32Array
    maps: Float32Array
    box: Float32Array | None = None
    regions: Float32Array | None = None


def capture_golden(runtime: Runtime, images: UInt8Array, targets: Float32Array) -> GoldenCases:
    """Run `runtime` on `images` `[N, H, W, C]` with one target each, `[N, classes]`, and record its outputs."""
    evidence = runtime.evidence(images, targets[:, None])
    maps = [gradcam(a, g[0]) for a, g in zip(evidence.features, evidence.gradients, strict=True)]
    return GoldenCases(
        images=images,
        targets=targets,
        probabilities=evidence.probabilities,
        logits=evidence.logits,
        novelty=evidence.novelty,
        maps=np.stack(maps),
        box=evidence.box,
        regions=evidence.regions,
    )


def write_golden(path: Path, golden: GoldenCases) -> None:
    """Write `golden` as a NumPy archive. Equal cases give equal bytes."""
    arrays = {name: getattr(golden, name) for name in (*_DIMENSIONS, *_OPTIONAL)}
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})


def read_golden(path: Path) -> GoldenCases:
    """Read a file that `write_golden` wrote, without unpickling.

    Raises:
        SelfTestError: if the file contains no valid golden cases.
    """
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*_DIMENSIONS, *(name for name in _OPTIONAL if name in archive))}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SelfTestError(f"{path} contains no golden cases that can be read: {error}") from error
    for name, array in arrays.items():
        kind = np.uint8 if name == "images" else np.float32
        if array.ndim != (_DIMENSIONS | _OPTIONAL)[name] or array.dtype != kind or len(array) != len(arrays["images"]):
            raise SelfTestError(
                f"{path} contains no valid golden cases: {name!r} has type {array.dtype} and shape {array.shape}"
            )
    return GoldenCases(**arrays)


def load_runtime(entry: Path) -> Runtime:
    """Verify and load a version folder, then run its self-test.

    Raises:
        ArtifactError: if the model is refused; the message says why.
    """
    # Imported here so that an application with another runtime does not need TensorFlow.
    from app.artifact.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415

    runtime = TensorFlowRuntime(entry)
    run_self_test(runtime, entry)
    return runtime


def run_self_test(runtime: Runtime, entry: Path) -> None:
    """Check a loaded model before it serves: the recorded result of its sanity check, and the golden cases in `entry`.

    Each check is skipped if the manifest has no `sanity` or no `self_test`. The sanity check is also skipped if the
    manifest has no `training`: it is then unknown whether the weights were ever trained, and randomising random weights
    changes nothing.

    Raises:
        SelfTestError: if a check fails; the message has the figure.
    """
    manifest = runtime.manifest
    if manifest.sanity is not None and manifest.training is not None:
        check_sanity(manifest.sanity)
    if manifest.self_test is not None:
        replay(runtime, read_golden(entry / manifest.self_test.file), manifest.self_test)


def check_sanity(sanity: SanitySpec) -> None:
    """Refuse a model whose heatmaps did not change when its weights were randomised.

    Raises:
        SelfTestError: if the heatmaps did not change.
    """
    if not sanity.passed:
        raise SelfTestError(
            f"the heatmaps do not depend on the weights: with all weights randomised, their correlation with the "
            f"original ones is still {sanity.correlations[-1]:.2f}; it must be below {sanity.limit:g}"
        )


def replay(runtime: Runtime, golden: GoldenCases, spec: SelfTestSpec) -> None:
    """Run `runtime` on the golden cases and compare its outputs with the recorded ones.

    Raises:
        SelfTestError: if an output differs by more than `spec` allows; the message has the figure.
    """
    shape = (runtime.manifest.input.height, runtime.manifest.input.width, runtime.manifest.input.channels)
    layer, classes = runtime.manifest.feature_layer, len(runtime.manifest.classes)
    actual = tuple(getattr(golden, name).shape[1:] for name in _DIMENSIONS)
    if actual != (shape, (classes,), (classes,), (classes,), (), (layer.height, layer.width)):
        raise SelfTestError(f"the golden cases have shapes {actual}, which contradict the manifest")
    found = capture_golden(runtime, golden.images, golden.targets)
    _compare("probabilities", found.probabilities - golden.probabilities, spec.probability_tolerance)
    for name in ("logits", "novelty", "maps"):
        recorded, actual_values = getattr(golden, name).astype(np.float64), getattr(found, name)
        # Relative to the largest value of all cases: a case of tiny values would have a tiny tolerance.
        _compare(name, (actual_values - recorded) / (np.abs(recorded).max() or 1.0), spec.relative_tolerance)
    for name in _OPTIONAL:
        _compare_optional(name, getattr(found, name), getattr(golden, name), spec.relative_tolerance)
    _check_task(runtime.manifest, found, spec.probability_tolerance)


def _check_task(manifest: Manifest, found: GoldenCases, tolerance: float) -> None:
    """Refuse a manifest that takes the classes for exclusive where the graph does not, or the other way round."""
    scores = found.logits.astype(np.float64) / manifest.temperature
    if manifest.task == "multi_label":
        expected = 0.5 * (1 + np.tanh(scores / 2))  # a sigmoid that can't overflow
    else:
        expected = np.exp(scores - scores.max(axis=-1, keepdims=True))
        expected /= expected.sum(axis=-1, keepdims=True)
    if not np.abs(expected - found.probabilities).max() <= tolerance:
        raise SelfTestError(
            f"the probabilities are not those of a {manifest.task} model with temperature "
            f"{manifest.temperature:g}: the manifest contradicts the SavedModel"
        )


def _compare_optional(name: str, found: Float32Array | None, golden: Float32Array | None, tolerance: float) -> None:
    """Compare an output, in shares, that a model may lack, if it was recorded."""
    if golden is None:
        return
    if found is None or found.shape != golden.shape:
        answered = "none" if found is None else f"shape {found.shape}"
        raise SelfTestError(f"the golden cases have {name!r} of shape {golden.shape}, and the model answers {answered}")
    _compare(name, found - golden, tolerance)


def _compare(name: str, differences: np.ndarray, tolerance: float) -> None:
    worst = float(np.abs(differences).max())
    if not worst <= tolerance:  # also true for NaN
        raise SelfTestError(
            f"the model's {name} differ from those recorded at its export by up to {worst:.3g}; {tolerance:g} is "
            "allowed. The weights are not the exported ones, or this device computes differently"
        )
