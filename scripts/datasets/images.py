"""Image files, decoded by the same code as an upload to the service."""

from __future__ import annotations

from pathlib import Path

from app.arrays import UInt8Array
from app.artifact.manifest import InputSpec
from app.imaging.decoding import decode, to_input
from app.imaging.geometry import Fit
from app.imaging.headers import identify
from app.imaging.picture import Picture

MAX_PIXELS = 200_000_000


def read_image(path: Path) -> Picture:
    """Decode the image file `path`, which may have up to `MAX_PIXELS` pixels.

    Raises:
        InputError: the file is not an image of a supported kind, is too large, or can't be decoded.
    """
    return decode(identify(path.read_bytes()), max_pixels=MAX_PIXELS)


def network_input(picture: Picture, spec: InputSpec, fit: Fit | None = None) -> UInt8Array:
    """Convert `picture` to the pixels that a network with input `spec` receives: uint8 `[H, W, C]`.

    `fit` replaces the fit of `spec`.
    """
    return to_input(
        picture,
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        fit=spec.fit if fit is None else fit,
        resize=spec.resize,
    )
