"""The bare model: calls of the SavedModel without a service, and the machine's rate of matrix multiplication."""

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
    """Return the wall times of `call(i)` for `rounds` calls in milliseconds, after two calls to warm up."""
    for i in range(2):
        call(i)
    times = []
    for i in tqdm(range(rounds), desc=label, unit="call", leave=False):
        start = time.perf_counter()
        call(i)
        times.append(1000 * (time.perf_counter() - start))
    return times


def median_ms(call: Callable[[int], object], rounds: int, label: str) -> float:
    """Return the median of `times_ms`."""
    return statistics.median(times_ms(call, rounds, label))


class BareModel:
    """A loaded artefact that is called with seeded noise through its `runtime`."""

    def __init__(self, entry: Path) -> None:
        self.runtime = TensorFlowRuntime(entry)
        self._entry = entry

    def predict_ms(self, rounds: int) -> float:
        """Return the median time of `serving_default` for one image, in milliseconds."""
        images = self._images(1)
        return median_ms(partial(self._predict, images), rounds, "bare predict")

    def evidence_ms(self, rounds: int) -> float:
        """Return the median time of `evidence` for one image and one target, in milliseconds."""
        images, targets = self._images(1), np.zeros((1, 1, len(self.runtime.manifest.classes)), np.float32)
        return median_ms(lambda _: self.runtime.evidence(images, targets), rounds, "bare evidence")

    def rate(self, size: int, images: int) -> float:
        """Return the images per second of `serving_default` in batches of `size`, measured on about `images` images."""
        call = partial(self._predict, self._images(size))
        return 1000 * size / median_ms(call, max(3, images // size), f"bare batches of {size}")

    def operations(self) -> int:
        """Count the floating-point operations of one prediction: two per multiply-add.

        The count covers convolutions and matrix products. It omits biases, activations, pooling and the like, and
        products in other forms (attention).
        """
        spec = self.runtime.manifest.input
        model = tf.saved_model.load(str(self._entry))  # the signature alone would not keep the variables alive
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
    """Count the multiply-adds of one operation for one image; 0 unless it is a convolution or a matrix product."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
        return 0
    # The only unknown size is that of the batch, which is one.
    output, first, second = (
        [size or 1 for size in tensor.shape] for tensor in (operation.outputs[0], *operation.inputs[:2])
    )
    if operation.type == "Conv2D":  # [B, H, W, out] from [kh, kw, in, out]
        return math.prod(output) * math.prod(second[:3])
    if operation.type == "DepthwiseConv2dNative":  # [B, H, W, in·m] from [kh, kw, in, m]
        return math.prod(output) * math.prod(second[:2])
    return math.prod(output) * first[0 if operation.get_attr("transpose_a") else 1]


class Baseline:
    """A figure of the bare model that is measured again before and after each measurement compared with it.

    The speed of a shared machine drifts by a tenth within minutes, so a single baseline at the start of a run would not
    be comparable with a measurement at its end.
    """

    def __init__(self, measure: Callable[[], float]) -> None:
        self._measure = measure
        self._last = measure()

    def remeasure(self) -> float:
        """Measure the figure again, and return the mean of the new value and the previous one."""
        before, self._last = self._last, self._measure()
        return (before + self._last) / 2


def multiplication_rate(rounds: int) -> float:
    """Return the highest rate at which this machine multiplies large float32 matrices, in operations per second."""
    matrix = tf.random.stateless_uniform((_MATRIX, _MATRIX), seed=(0, 0))
    taken = times_ms(lambda _: tf.linalg.matmul(matrix, matrix)[0, 0].numpy(), rounds, "matrix multiplication")
    return 2 * _MATRIX**3 / (min(taken) / 1000)
