"""Bytes to pixels, and pixels to what the network takes. Training and serving call these same functions."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from app.arrays import UInt8Array
from app.errors import CorruptImageError, ImageTooLargeError, NoImageError, UnsupportedImageError
from app.geometry import Fit, seen_region

# Pillow's own limit is one global for the process and ends in a warning; `decode` checks the caller's, before decoding.
Image.MAX_IMAGE_PIXELS = None

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, upright.

    `image` has mode `L` (grey, kept grey because most films are) or `RGB`, 8 bits a channel; `format` names the
    container that it came in.
    """

    image: Image.Image
    format: str

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes announce (one of `FORMATS`), or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def decode(data: bytes, *, max_pixels: int) -> Picture:
    """Decode an encoded image, chosen by its magic bytes, to 8-bit pixels with its EXIF orientation applied.

    16-bit grey is scaled by the type's range (65535 becomes 255); an alpha channel is dropped; of several frames the
    first is taken.

    Raises:
        NoImageError: `data` is empty.
        UnsupportedImageError: the magic bytes name no supported format.
        ImageTooLargeError: the header announces more than `max_pixels` pixels; nothing is decoded then.
        CorruptImageError: the image is truncated, damaged or has no pixels.
    """
    if not data:
        raise NoImageError("the request holds no image: it is empty")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError(f"not an image of a supported kind; send one of {', '.join(FORMATS)}")
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            _check_size(image.size, max_pixels)
            image.load()
            return Picture(_eight_bit(ImageOps.exif_transpose(image)), name)
    # Pillow reports damage by whatever its parser stumbles on, and documents no common root; this is the list that
    # its decoders raise.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CorruptImageError(f"the {name} image can't be decoded: it is truncated or damaged") from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled_to_eight_bit(np.asarray(image)))
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    return image.convert("RGB")


def _scaled_to_eight_bit(values: np.ndarray) -> UInt8Array:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError("floating-point pixels have no known range")
    return (np.clip(values, 0, 65535) / 257 + 0.5).astype(np.uint8)


def to_input(picture: Picture, *, width: int, height: int, channels: int, fit: Fit) -> UInt8Array:
    """Resize `picture` to what the network takes: uint8 `[height, width, channels]`, 0..255.

    Antialiased bilinear (Pillow's, whose support grows with the reduction), the region as `seen_region` says, padding
    black; one channel is ITU-R 601 luma.
    """
    image = picture.image.convert("L") if channels == 1 else picture.image
    if fit == "pad":
        resized = ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR)
    else:
        region = seen_region(picture.width, picture.height, width, height, fit)
        # Cropped first: the `box` of `resize` lets the filter reach over the box's edge, to what must not be seen.
        box = (int(region.left), int(region.top), int(region.right), int(region.bottom))
        resized = image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(height, width, channels)
