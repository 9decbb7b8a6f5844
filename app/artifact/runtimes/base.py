"""What the service asks of whatever runs the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from app.arrays import Float32Array, UInt8Array
from app.artifact.manifest import Manifest


class Library(NamedTuple):
    """The library that runs a network, by the name of its package, and its version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Scores:
    """What a plain forward pass yields for B images.

    `probabilities` float32 `[B, classes]`; `novelty` float32 `[B]`, all zeros where the model has no novelty score.
    """

    probabilities: Float32Array
    novelty: Float32Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one pass yields for B images and T questions about each.

    `probabilities` and `logits` float32 `[B, classes]`; `features` float32 `[B, h, w, K]`; `gradients` float32
    `[B, T, h, w, K]`, the gradient of each target's score (a combination of logits) at those features; `novelty`
    float32 `[B]`.
    """

    probabilities: Float32Array
    logits: Float32Array
    features: Float32Array
    gradients: Float32Array
    novelty: Float32Array


class Runtime(Protocol):
    """A loaded model. Calls block, may come from any thread, and rows never influence one another."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def device(self) -> str:
        """`CPU`, or the name of the GPU that computes."""
        ...

    @property
    def library(self) -> Library:
        """What computes the answers: a receipt names it."""
        ...

    def memory_bytes(self) -> int:
        """What the model's weights take; on a GPU, all that is allocated there."""
        ...

    def predict(self, images: UInt8Array) -> Scores:
        """Score `images`, uint8 `[B, H, W, C]`."""
        ...

    def evidence(self, images: UInt8Array, targets: Float32Array) -> Evidence:
        """Score `images` and answer `targets`, float32 `[B, T, classes]`; an all-zero row = the predicted class."""
        ...
