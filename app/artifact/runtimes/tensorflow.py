"""The TensorFlow runtime. No other module of the service imports TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest, read_manifest
from app.artifact.runtimes.base import Evidence, Library, Scores
from app.artifact.store import verify_files
from app.errors import SignatureError

_SIGNATURES = ("serving_default", "explain", "evidence")


class TensorFlowRuntime:
    """The SavedModel of a version folder, verified against its manifest, loaded and warmed up.

    Raises:
        ManifestError: if the manifest is missing or invalid.
        DigestMismatchError: if a file is missing or differs from the exported one.
        SignatureError: if the SavedModel can't be loaded, or its signatures contradict the manifest.
    """

    library = Library("tensorflow", tf.__version__)

    def __init__(self, entry: Path) -> None:
        self.manifest: Manifest = read_manifest(entry)
        verify_files(entry, self.manifest)
        self.device: str = _claim_device()
        # The loaded object owns the variables; the signatures alone don't keep them alive.
        self._model: Any = _load(entry)
        self._predict, self._evidence = _checked_signatures(self._model, self.manifest, entry)
        self._warm_up()

    def predict(self, images: UInt8Array) -> Scores:
        """Return the scores of `images`, uint8 `[B, H, W, C]`."""
        outputs = self._predict(images=tf.constant(images))
        return Scores(**_fields(Scores, outputs))

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        """Return the evidence for `images`, uint8 `[B, H, W, C]`, and `targets`, float32 `[B, T, classes]`.

        A target is a vector over the logits; zeros stand for the predicted class.
        """
        outputs = self._evidence(images=tf.constant(images), targets=tf.constant(targets))
        return Evidence(**_fields(Evidence, outputs))

    def memory_bytes(self) -> int:
        """Return the memory of the weights, or on a GPU all memory allocated there, in bytes."""
        if tf.config.list_physical_devices("GPU"):
            return int(tf.config.experimental.get_memory_info("GPU:0")["current"])
        return sum(int(np.prod(v.shape)) * v.dtype.size for v in self._model.model_variables)

    def variables(self) -> list[Any]:
        """Return the weights, from input to logits, as TensorFlow variables, for sanity checks that modify them."""
        return list(self._model.model_variables)

    def _warm_up(self) -> None:
        """Call the model once, because the first call compiles kernels and allocates memory."""
        spec = self.manifest.input
        image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
        self.predict(image)
        self.evidence(image, np.zeros((1, 1, len(self.manifest.classes)), np.float32))


def _fields(result: type[Scores | Evidence], outputs: dict[str, Any]) -> dict[str, Float32Array]:
    """Return the fields of `result` among the outputs of a signature, which may lack optional ones."""
    return {name: outputs[name].numpy() for name in result.__dataclass_fields__ if name in outputs}


def _claim_device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Without memory growth, TensorFlow takes all memory of a GPU, and no second process fits on it.
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return "CPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))


def _load(entry: Path) -> Any:
    try:
        return tf.saved_model.load(str(entry))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise SignatureError(
            f"{entry} contains no SavedModel that TensorFlow {tf.__version__} can load: {error}"
        ) from error


def _checked_signatures(model: Any, manifest: Manifest, entry: Path) -> tuple[Any, Any]:
    classes, spec, layer = len(manifest.classes), manifest.input, manifest.feature_layer
    image = (spec.height, spec.width, spec.channels)
    grid = (layer.height, layer.width)
    expected: dict[str, tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
        "serving_default": ({"images": image}, {"probabilities": (classes,), "novelty": ()}),
        "explain": (
            {"images": image, "class_index": ()},
            {"probabilities": (classes,), "class_index": (), "heatmap": grid},
        ),
        "evidence": (
            {"images": image, "targets": (-1, classes)},
            {
                "probabilities": (classes,),
                "logits": (classes,),
                "features": (*grid, layer.channels),
                "gradients": (-1, *grid, layer.channels),
                "novelty": (),
            },
        ),
    }
    for name, (inputs, outputs) in expected.items():
        if name not in model.signatures:
            raise SignatureError(f"{entry} lacks the signature {name!r}; available: {sorted(model.signatures)}")
        signature = model.signatures[name]
        _check_shapes(f"{entry}: input of {name!r}", signature.structured_input_signature[1], inputs)
        _check_shapes(f"{entry}: output of {name!r}", signature.structured_outputs, outputs)
    _check_optional_outputs(model.signatures, manifest, entry)
    return model.signatures["serving_default"], model.signatures["evidence"]


def _check_optional_outputs(signatures: Any, manifest: Manifest, entry: Path) -> None:
    """Check the outputs `box` and `regions`, which all signatures have or none, and the manifest's `region`."""
    grid = (manifest.feature_layer.height, manifest.feature_layer.width)
    found = {name: signatures[name].structured_outputs for name in _SIGNATURES}
    for output, shape in (("box", (4,)), ("regions", grid)):
        having = [name for name in _SIGNATURES if output in found[name]]
        if having and len(having) < len(_SIGNATURES):
            raise SignatureError(
                f"{entry}: the output {output!r} is in {having}; all of {list(_SIGNATURES)} must have it, or none"
            )
        for name in having:
            _check_shapes(f"{entry}: output of {name!r}", found[name], {output: shape})
    has_regions = "regions" in found[_SIGNATURES[0]]
    if manifest.region is not None and not has_regions:
        raise SignatureError(
            f"{entry}: the manifest names the region {manifest.region.name!r}, but there is no output 'regions'"
        )
    if manifest.region is None and has_regions:
        raise SignatureError(f"{entry} has an output 'regions', but the manifest's 'region' does not name it")
    if manifest.feature_layer.region is not None and "box" in found[_SIGNATURES[0]]:
        raise SignatureError(
            f"{entry} has an output 'box', and the manifest's 'feature_layer.region' says otherwise what the features "
            "cover: only one of them may"
        )


def _check_shapes(subject: str, actual: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if name not in actual:
            raise SignatureError(f"{subject} {name!r} is missing; available: {sorted(actual)}")
        required = tf.TensorShape([None, *(None if size == -1 else size for size in shape)])
        if not actual[name].shape.is_compatible_with(required):
            raise SignatureError(f"{subject} {name!r} has shape {actual[name].shape}; the manifest says {required}")
