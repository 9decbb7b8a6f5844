"""The protocol of runtimes, which run a network for the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest


class Library(NamedTuple):
    """The library that runs a network: the name of its package, and its version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Scores:
    """The outputs of a forward pass for B images.

    `probabilities` is float32 `[B, classes]`; `novelty` float32 `[B]`, all zeros if the model has no novelty score.
    """

    probabilities: Float32Array
    novelty: Float32Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """The outputs of a forward and backward pass for B images with T targets each.

    `probabilities` and `logits` are float32 `[B, classes]`; `features` float32 `[B, h, w, K]`; `gradients` float32
    `[B, T, h, w, K]`, the gradient of each target's score (a linear combination of logits) with respect to the
    features; `novelty` float32 `[B]`.
    """

    probabilities: Float32Array
    logits: Float32Array
    features: Float32Array
    gradients: Float32Array
    novelty: Float32Array


class Runtime(Protocol):
    """A loaded model. Its methods block, run in any thread, and treat the images of a batch independently."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def device(self) -> str:
        """`CPU`, or the name of the GPU."""
        ...

    @property
    def library(self) -> Library:
        """The library that computes the outputs; receipts name it."""
        ...

    def memory_bytes(self) -> int:
        """Return the memory of the weights, or on a GPU all memory allocated there, in bytes."""
        ...

    def predict(self, images: UInt8Array) -> Scores:
        """Return the scores of `images`, uint8 `[B, H, W, C]`."""
        ...

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        """Return the evidence for `images`, uint8 `[B, H, W, C]`, and `targets`, float32 `[B, T, classes]`.

        A target is a vector over the logits; zeros stand for the predicted class.
        """
        ...
