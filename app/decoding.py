"""Bytes to pixels, and pixels to what the network takes. Training and serving call these same functions."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

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
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A progressive JPEG has about ten scans, each of which costs a pass over all pixels; thousands are an attack.
_MAX_SCANS = 100
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
        UnsupportedImageError: the magic bytes name no supported format, or the pixels have 32 bits.
        ImageTooLargeError: the header announces more than `max_pixels` pixels; nothing is decoded then.
        CorruptImageError: the image is truncated, damaged or has no pixels.
    """
    if not data:
        raise NoImageError("the request holds no image: it is empty")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError(f"not an image of a supported kind; send one of {', '.join(FORMATS)}")
    if name == "JPEG" and data.count(b"\xff\xda") > _MAX_SCANS:
        raise CorruptImageError(f"the JPEG image has more than {_MAX_SCANS} scans")
    if name == "WEBP":
        _check_size(_webp_size(data), max_pixels)  # Pillow would make the canvas before it tells its size
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            _check_size(image.size, max_pixels)
            image.load()
            return Picture(_upright(_eight_bit(image), image), name)
    # Pillow reports damage by whatever its parser stumbles on, and documents no common root; this is the list that
    # its decoders raise.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        struct.error,
    ) as error:
        raise CorruptImageError(f"the {name} image can't be decoded: it is truncated or damaged") from error


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk's header (RFC 9649, section 2)."""
    header = data[20:30].ljust(10, b"\0")
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise CorruptImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def _upright(pixels: Image.Image, original: Image.Image) -> Image.Image:
    """`pixels` turned as the EXIF of `original` says; EXIF that can't be read says nothing."""
    try:
        orientation = original.getexif().get(_EXIF_ORIENTATION)
    # Pillow's EXIF parser leaks what it stumbles on, and a film is no worse for a camera's odd note.
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return pixels
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray(_high_bytes(np.asarray(image)))
    if image.mode in ("I", "F"):
        raise UnsupportedImageError(f"{image.format} pixels of 32 bits have no known range; send 8 or 16 bits")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    return image.convert("RGB")


def _high_bytes(values: np.ndarray) -> UInt8Array:
    """16 bits `[H, W]` to 8, rounded, a band of rows at a time: whole temporaries would cost twenty bytes a pixel."""
    pixels = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 256):
        band = values[top : top + 256].astype(np.uint32)
        pixels[top : top + 256] = (band + 128) // 257
    return pixels


def to_input(picture: Picture, *, width: int, height: int, channels: int, fit: Fit) -> UInt8Array:
    """Resize `picture` to what the network takes: uint8 `[height, width, channels]`, 0..255.

    Antialiased bilinear (Pillow's, whose support grows with the reduction), the region as `seen_region` says, padding
    black; one channel is ITU-R 601 luma.
    """
    image = picture.image.convert("L") if channels == 1 else picture.image
    region = seen_region(picture.width, picture.height, width, height, fit)
    if fit == "pad":
        x, y = width / region.width, height / region.height  # input pixels per image pixel
        inner = (round(picture.width * x), round(picture.height * y))
        resized = Image.new(image.mode, (width, height))
        resized.paste(image.resize(inner, Image.Resampling.BILINEAR), (round(-region.left * x), round(-region.top * y)))
    else:
        # Cropped first: the `box` of `resize` lets the filter reach over the box's edge, to what must not be seen.
        box = (int(region.left), int(region.top), int(region.right), int(region.bottom))
        resized = image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(height, width, channels)
