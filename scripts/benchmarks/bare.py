"""The SavedModel's own calls without a service, and what their arithmetic takes at a large product's rate."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tqdm import tqdm

from app.artifact.runtimes.tensorflow import TensorFlowRuntime

BATCH_SIZES = (1, 2, 4, 8, 16)
_MATRIX = 2048


def times_ms(call: Callable[[int], object], rounds: int, label: str) -> list[float]:
    """The wall times of `call(i)` in milliseconds, after two calls that don't count."""
    for i in range(2):
        call(i)
    times = []
    for i in tqdm(range(rounds), desc=label, unit="call", leave=False):
        start = time.perf_counter()
        call(i)
        times.append(1000 * (time.perf_counter() - start))
    return times


def median_ms(call: Callable[[int], object], rounds: int, label: str) -> float:
    """The median of `times_ms`."""
    return statistics.median(times_ms(call, rounds, label))


class Bare:
    """A loaded artefact, asked with seeded noise; `runtime` is what asks it."""

    def __init__(self, entry: Path) -> None:
        self.runtime = TensorFlowRuntime(entry)
        self._entry = entry

    def predict_ms(self, rounds: int) -> float:
        """One image through `serving_default`."""
        images = self._images(1)
        return median_ms(partial(self._predict, images), rounds, "bare predict")

    def evidence_ms(self, rounds: int) -> float:
        """One image and one question through `evidence`."""
        images, targets = self._images(1), np.zeros((1, 1, len(self.runtime.manifest.classes)), np.float32)
        return median_ms(lambda _: self.runtime.evidence(images, targets), rounds, "bare evidence")

    def rate(self, size: int, images: int) -> float:
        """Images a second through `serving_default` in batches of `size`, of about `images` images."""
        call = partial(self._predict, self._images(size))
        return 1000 * size / median_ms(call, max(3, images // size), f"bare batches of {size}")

    def operations(self) -> int:
        """Floating-point operations of one prediction: two a multiply-add of its convolutions and matrix products.

        Biases, activations, pooling and the like are left out, as are products written in other ways (attention).
        """
        spec = self.runtime.manifest.input
        model = tf.saved_model.load(str(self._entry))  # the signature alone does not keep its variables alive
        signature = model.signatures["serving_default"]
        image = tf.TensorSpec([1, spec.height, spec.width, spec.channels], tf.uint8)
        call = tf.function(lambda images: signature(images=images)).get_concrete_function(image)
        graph = convert_variables_to_constants_v2(call).graph
        return sum(2 * _multiply_adds(operation) for operation in graph.get_operations())

    def _images(self, count: int) -> np.ndarray:
        spec = self.runtime.manifest.input
        shape = (count, spec.height, spec.width, spec.channels)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def _predict(self, images: np.ndarray, _round: int) -> None:
        self.runtime.predict(images)


def _multiply_adds(operation: tf.Operation) -> int:
    """Those of one operation for one image; 0 for what neither convolves nor multiplies matrices."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
        return 0
    # What is unknown is the size of the batch: one.
    made, first, second = (
        [size or 1 for size in tensor.shape] for tensor in (operation.outputs[0], *operation.inputs[:2])
    )
    if operation.type == "Conv2D":  # [B, H, W, out] from [kh, kw, in, out]
        return math.prod(made) * math.prod(second[:3])
    if operation.type == "DepthwiseConv2dNative":  # [B, H, W, in·m] from [kh, kw, in, m]
        return math.prod(made) * math.prod(second[:2])
    return math.prod(made) * first[0 if operation.get_attr("transpose_a") else 1]


class Yardstick:
    """A figure of the bare model that is measured anew around whatever is compared with it.

    A shared machine's speed drifts by a tenth within minutes: a figure from the start of a run would be another
    machine's at its end.
    """

    def __init__(self, measure: Callable[[], float]) -> None:
        self._measure = measure
        self._last = measure()

    def around(self) -> float:
        """The mean of the figure before what was just measured (or when this was last asked) and after it."""
        before, self._last = self._last, self._measure()
        return (before + self._last) / 2


def multiplication_rate(rounds: int) -> float:
    """Floating-point operations a second at which this machine multiplies large float32 matrices, at its best."""
    matrix = tf.random.stateless_uniform((_MATRIX, _MATRIX), seed=(0, 0))
    taken = times_ms(lambda _: tf.linalg.matmul(matrix, matrix)[0, 0].numpy(), rounds, "matrix multiplication")
    return 2 * _MATRIX**3 / (min(taken) / 1000)
