"""Does a loaded model still answer as it did when it was exported? Golden cases, recorded then and replayed now."""

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


@dataclass(frozen=True, slots=True)
class Golden:
    """N images and what a model answered to them.

    `images` uint8 `[N, H, W, C]`; `targets` float32 `[N, classes]`, the one-hot classes whose maps they are;
    `probabilities` and `logits` float32 `[N, classes]`; `novelty` float32 `[N]`; `maps` float32 `[N, h, w]`, Grad-CAM
    before its ReLU, in the score's units.
    """

    images: UInt8Array
    targets: Float32Array
    probabilities: Float32Array
    logits: Float32Array
    novelty: Float32Array
    maps: Float32Array


def answers(runtime: Runtime, images: UInt8Array, targets: Float32Array) -> Golden:
    """What `runtime` answers to `images` `[N, H, W, C]` and one target for each, `[N, classes]`."""
    evidence = runtime.evidence(images, targets[:, None])
    maps = [gradcam(a, g[0]) for a, g in zip(evidence.features, evidence.gradients, strict=True)]
    return Golden(images, targets, evidence.probabilities, evidence.logits, evidence.novelty, np.stack(maps))


def write_golden(path: Path, golden: Golden) -> None:
    """Write `golden` as a NumPy archive; the same cases give the same bytes."""
    np.savez_compressed(path, **{name: getattr(golden, name) for name in _DIMENSIONS})


def read_golden(path: Path) -> Golden:
    """Read what `write_golden` wrote; nothing in the file is executed.

    Raises:
        SelfTestError: it is not such a file.
    """
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _DIMENSIONS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SelfTestError(f"{path} holds no golden cases that can be read: {error}") from error
    for name, array in arrays.items():
        kind = np.uint8 if name == "images" else np.float32
        if array.ndim != _DIMENSIONS[name] or array.dtype != kind or len(array) != len(arrays["images"]):
            raise SelfTestError(f"{path}: {name!r} is {array.dtype} of shape {array.shape}: no golden cases")
    return Golden(**arrays)


def load_runtime(entry: Path) -> Runtime:
    """Verify and load a version folder, and check that it still answers as it did when it was exported.

    Raises:
        ArtifactError: it is refused; the message says why.
    """
    # Imported here so that an application with a runtime of its own needs no TensorFlow.
    from app.artifact.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415

    runtime = TensorFlowRuntime(entry)
    run_self_test(runtime, entry)
    return runtime


def run_self_test(runtime: Runtime, entry: Path) -> None:
    """What a loaded model has to pass before it answers anyone: its sanity outcome, and the golden cases of `entry`.

    An artefact that was packed without them, so that its manifest's `sanity` or `self_test` is None, has nothing to
    pass. The sanity outcome counts where the manifest has `training`: whether an exported model's weights were ever
    trained is not known, and a network that is random already has nothing to lose.

    Raises:
        SelfTestError: it fails; the message has the figure.
    """
    manifest = runtime.manifest
    if manifest.sanity is not None and manifest.training is not None:
        check_sanity(manifest.sanity)
    if manifest.self_test is not None:
        replay(runtime, read_golden(entry / manifest.self_test.file), manifest.self_test)


def check_sanity(sanity: SanitySpec) -> None:
    """Refuse a model whose heatmaps did not change when its weights were randomised.

    Raises:
        SelfTestError: they did not.
    """
    if not sanity.passed:
        raise SelfTestError(
            f"the heatmaps do not depend on the weights: with all of them randomised they still correlate with the "
            f"original ones by {sanity.correlations[-1]:.2f}; below {sanity.limit:g} was expected"
        )


def replay(runtime: Runtime, golden: Golden, spec: SelfTestSpec) -> None:
    """Ask `runtime` the golden cases again.

    Raises:
        SelfTestError: an answer is further from the recorded one than `spec` allows; the message has the figure.
    """
    shape = (runtime.manifest.input.height, runtime.manifest.input.width, runtime.manifest.input.channels)
    layer, classes = runtime.manifest.feature_layer, len(runtime.manifest.classes)
    actual = tuple(getattr(golden, name).shape[1:] for name in _DIMENSIONS)
    if actual != (shape, (classes,), (classes,), (classes,), (), (layer.height, layer.width)):
        raise SelfTestError(f"the golden cases have shapes {actual}, which contradict the manifest")
    found = answers(runtime, golden.images, golden.targets)
    _compare("probabilities", found.probabilities - golden.probabilities, spec.probability_tolerance)
    for name in ("logits", "novelty", "maps"):
        recorded, actual_values = getattr(golden, name).astype(np.float64), getattr(found, name)
        # Of the largest of all cases: one that is nearly nothing must not be held to a share of nothing.
        _compare(name, (actual_values - recorded) / (np.abs(recorded).max() or 1.0), spec.relative_tolerance)
    _check_task(runtime.manifest, found, spec.probability_tolerance)


def _check_task(manifest: Manifest, found: Golden, tolerance: float) -> None:
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


def _compare(what: str, differences: np.ndarray, tolerance: float) -> None:
    worst = float(np.abs(differences).max())
    if not worst <= tolerance:  # NaN is no match either
        raise SelfTestError(
            f"the model's {what} differ from those recorded at its export by up to {worst:.3g}; {tolerance:g} is "
            "allowed. Its weights are not the ones that were exported, or this device computes otherwise"
        )
