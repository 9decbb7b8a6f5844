"""What an explanation was made from, so that it can be made again and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from app import __version__
from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Library
from app.imaging.geometry import Fit

# What is loaded to answer; reports and golden cases may change without another answer.
_SAVED_MODEL = ("saved_model.pb", "variables/", "assets/")


@dataclass(frozen=True, slots=True)
class Receipt:
    """All that decides an explanation: the same receipt, the same numbers.

    `image_sha256` is over the image's bytes as they came, `model_sha256` as `model_digest` says. `target` is the vector
    over the logits, in the order of `classes`, whose score was explained. `library` ran the model.
    """

    image_sha256: str
    model: str
    version: int
    model_sha256: str
    method: str
    classes: tuple[str, ...]
    target: tuple[float, ...]
    layer: str
    fit: Fit
    lightbox: str
    library: str
    library_version: str


def model_digest(manifest: Manifest) -> str:
    """SHA-256 over the SavedModel's files: of the lines that `sha256sum` prints for them, sorted by path.

    In a version folder: `sha256sum $(find saved_model.pb variables assets -type f | LC_ALL=C sort) | sha256sum`.
    """
    lines = [f"{manifest.files[name]}  {name}\n" for name in sorted(manifest.files) if name.startswith(_SAVED_MODEL)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def receipt(manifest: Manifest, image: bytes, method: str, target: Sequence[float], library: Library) -> Receipt:
    """The receipt of an explanation of `image`, the encoded bytes, by `method` for `target`, computed by `library`."""
    return Receipt(
        image_sha256=hashlib.sha256(image).hexdigest(),
        model=manifest.name,
        version=manifest.version,
        model_sha256=model_digest(manifest),
        method=method,
        classes=manifest.classes,
        target=tuple(map(float, target)),
        layer=manifest.feature_layer.name,
        fit=manifest.input.fit,
        lightbox=__version__,
        library=library.name,
        library_version=library.version,
    )
