"""Run an artefact's SavedModel with TensorFlow: the one serving file that imports it."""

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


class TensorFlowRuntime:
    """A SavedModel that was verified against its manifest, loaded and warmed up.

    Raises:
        ManifestError, DigestMismatchError, SignatureError: the artefact is refused; the message says why.
    """

    library = Library("tensorflow", tf.__version__)

    def __init__(self, entry: Path) -> None:
        self.manifest: Manifest = read_manifest(entry)
        verify_files(entry, self.manifest)
        self.device: str = _claim_device()
        # The loaded object owns the variables: the signatures alone don't keep them alive.
        self._model: Any = _load(entry)
        self._predict, self._evidence = _checked_signatures(self._model, self.manifest, entry)
        self._warm_up()

    def predict(self, images: UInt8Array) -> Scores:
        """Score `images`, uint8 `[B, H, W, C]`."""
        outputs = self._predict(images=tf.constant(images))
        return Scores(outputs["probabilities"].numpy(), outputs["novelty"].numpy())

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        """Score `images` and answer `targets`, float32 `[B, T, classes]`; an all-zero row = the predicted class."""
        outputs = self._evidence(images=tf.constant(images), targets=tf.constant(targets))
        return Evidence(**{name: outputs[name].numpy() for name in Evidence.__dataclass_fields__})

    def memory_bytes(self) -> int:
        """What the model's weights take; on a GPU, all that is allocated there."""
        if tf.config.list_physical_devices("GPU"):
            return int(tf.config.experimental.get_memory_info("GPU:0")["current"])
        return sum(int(np.prod(v.shape)) * v.dtype.size for v in self._model.model_variables)

    def variables(self) -> list[Any]:
        """The model's weights, from input to logits, as TensorFlow variables: for sanity checks that change them."""
        return list(self._model.model_variables)

    def _warm_up(self) -> None:
        """The first call compiles kernels and allocates; no user should wait for that."""
        spec = self.manifest.input
        image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
        self.predict(image)
        self.evidence(image, np.zeros((1, 1, len(self.manifest.classes)), np.float32))


def _claim_device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # Without growth TensorFlow takes all of a GPU's memory at once, and no second process fits on it.
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return "CPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))


def _load(entry: Path) -> Any:
    try:
        return tf.saved_model.load(str(entry))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise SignatureError(
            f"{entry} holds no SavedModel that TensorFlow {tf.__version__} can load: {error}"
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
            raise SignatureError(f"{entry} lacks the signature {name!r}; it has: {sorted(model.signatures)}")
        signature = model.signatures[name]
        _check_shapes(f"{entry}: input of {name!r}", signature.structured_input_signature[1], inputs)
        _check_shapes(f"{entry}: output of {name!r}", signature.structured_outputs, outputs)
    return model.signatures["serving_default"], model.signatures["evidence"]


def _check_shapes(where: str, actual: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if name not in actual:
            raise SignatureError(f"{where} {name!r} is missing; there are: {sorted(actual)}")
        wanted = tf.TensorShape([None, *(None if size == -1 else size for size in shape)])
        if not actual[name].shape.is_compatible_with(wanted):
            raise SignatureError(f"{where} {name!r} has shape {actual[name].shape}; the manifest says {wanted}")
