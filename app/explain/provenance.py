"""Receipts, which record everything that determines an explanation, so that it can be reproduced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from app import __version__
from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Library
from app.imaging.geometry import Box, Fit, Resize

# The files that are loaded to answer. Reports and golden cases don't affect answers.
_SAVED_MODEL = ("saved_model.pb", "variables/", "assets/")


@dataclass(frozen=True, slots=True)
class LocatedOrgan:
    """What the manifest says about the organ that the model locates, and what decides the answer's `region`."""

    name: str
    gated: bool
    min_share_of_image: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that determines an explanation: explanations with equal receipts have equal numbers.

    `image_sha256` is the digest of the image file, and `model_sha256` that of the model (see `model_digest`). `target`
    is the vector over the logits, in the order of `classes`, whose score is explained. `box` is the part of the input
    that the heatmap covers, as (left, top, right, bottom) in shares of its width and height. `region` is None if
    the model locates no organ. `library` ran the model.
    """

    image_sha256: str
    model: str
    version: int
    model_sha256: str
    method: str
    classes: tuple[str, ...]
    target: tuple[float, ...]
    layer: str
    box: Box
    region: LocatedOrgan | None
    fit: Fit
    resize: Resize
    lightbox: str
    library: str
    library_version: str


def model_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of the lines that `sha256sum` prints for the files of the SavedModel, sorted by path.

    In a version folder: `sha256sum $(find saved_model.pb variables assets -type f | LC_ALL=C sort) | sha256sum`.
    """
    lines = [f"{manifest.files[name]}  {name}\n" for name in sorted(manifest.files) if name.startswith(_SAVED_MODEL)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def receipt(
    manifest: Manifest, image: bytes, method: str, target: Sequence[float], library: Library, box: Box | None = None
) -> Receipt:
    """Create the receipt of an explanation of the file `image` by `method` for `target`, computed by `library`.

    `box` is the part of the input that the heatmap covers; by default that of the manifest.
    """
    region = manifest.region
    return Receipt(
        image_sha256=hashlib.sha256(image).hexdigest(),
        model=manifest.name,
        version=manifest.version,
        model_sha256=model_digest(manifest),
        method=method,
        classes=manifest.classes,
        target=tuple(map(float, target)),
        layer=manifest.feature_layer.name,
        box=manifest.feature_layer.box if box is None else box,
        region=None if region is None else LocatedOrgan(region.name, region.gated, region.min_share_of_image),
        fit=manifest.input.fit,
        resize=manifest.input.resize,
        lightbox=__version__,
        library=library.name,
        library_version=library.version,
    )
