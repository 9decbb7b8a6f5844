"""The protocol of runtimes, which run a network for the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

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

    Two outputs are None if the model lacks them. `box` is float32 `[B, 4]`: the part of the input that the features
    cover, as (left, top, right, bottom) in shares of its width and height, for a model that crops each image by itself.
    `regions` is float32 `[B, h, w]` in 0..1: the share of each cell of the features that belongs to the organ that the
    manifest's `region` names.
    """

    probabilities: Float32Array
    novelty: Float32Array
    box: Float32Array | None = None
    regions: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The outputs of a forward and backward pass for B images with T targets each.

    `probabilities` and `logits` are float32 `[B, classes]`; `features` float32 `[B, h, w, K]`; `gradients` float32
    `[B, T, h, w, K]`, the gradient of each target's score (a linear combination of logits) with respect to the
    features; `novelty` float32 `[B]`; `box` and `regions` as in `Scores`.
    """

    probabilities: Float32Array
    logits: Float32Array
    features: Float32Array
    gradients: Float32Array
    novelty: Float32Array
    box: Float32Array | None = None
    regions: Float32Array | None = None


R = TypeVar("R", Scores, Evidence)


def split_rows(outputs: R) -> list[R]:
    """Split the outputs for B images into those for each, without the batch axis."""
    columns = [getattr(outputs, name) for name in outputs.__dataclass_fields__]
    count = len(outputs.probabilities)
    split = [[None] * count if column is None else list(column) for column in columns]
    return [type(outputs)(*row) for row in zip(*split, strict=True)]


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
