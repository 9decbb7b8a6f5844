"""Bytes to pixels, and pixels to what the network takes. Training and serving call these same functions."""

from __future__ import annotations

import io
import struct
from typing import Literal

import numpy as np
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.errors import CorruptImageError, QuestionError, UnsupportedImageError
from app.imaging.dicom.codecs import decode_jpeg
from app.imaging.dicom.reader import decode_dicom
from app.imaging.geometry import Fit, seen_region
from app.imaging.headers import (
    EncodedImage,
    check_size,
    exif_orientation,
    first_gif_frame,
    first_tiff_page,
    jpeg_frame,
    webp_size,
)
from app.imaging.picture import AnswerWarning, Picture

# Pillow's own limit is one global for the process and ends in a warning; `decode` checks the caller's, before decoding.
Image.MAX_IMAGE_PIXELS = None

Resize = Literal["antialias", "bilinear", "nearest"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
# Pillow reports damage by whatever its parser stumbles on, and documents no common root; this is the list that its
# decoders raise.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
_FIRST_FRAME = AnswerWarning(
    "first_frame_only", "the image has several frames or pages; this answer is about the first"
)
_RANGE_UNUSED = AnswerWarning(
    "range_unused",
    "the values fill less than a sixteenth of their 16 bits, so the film came out nearly black: scale them to 0..65535",
)


def decode(image: EncodedImage, *, max_pixels: int, frame: int | None = None) -> Picture:
    """Decode an image file to 8-bit pixels, upright.

    16-bit grey is scaled by the type's range (65535 becomes 255), 12-bit JPEG and TIFF likewise (4095 becomes 255); an
    alpha channel is dropped; of several frames the first is taken, and a warning says so. DICOM is shown as its header
    says (`app.imaging.dicom.presentation`).

    Args:
        image: the whole file.
        max_pixels: how many pixels the image, or one frame of it, may have.
        frame: which frame of a DICOM object, from 1; None where there is only one.

    Raises:
        UnsupportedImageError: the pixels are of a kind that has no known range.
        ImageTooLargeError: the header announces more than `max_pixels` pixels; nothing is decoded then.
        QuestionError: there is no such `frame`, or a DICOM object has several and `frame` is None.
        CorruptImageError: the image is truncated, damaged or has no pixels.
    """
    data, name = image.data, image.format
    if name == "DICOM":
        return decode_dicom(data, max_pixels=max_pixels, frame=frame)
    if frame not in (None, 1):
        raise QuestionError(f"there is no frame {frame} to choose: frames of {name} images can't be chosen")
    several = False
    if name == "JPEG" and ((header := jpeg_frame(data)).precision != 8 or header.lossless):
        check_size(header.width, header.height, max_pixels)
        values = decode_jpeg(data, header)
        return Picture(Image.fromarray(scaled(values, 2**header.precision - 1)), name)
    if name == "WEBP":
        check_size(*webp_size(data), max_pixels)  # Pillow would make the canvas before it tells its size
    elif name == "GIF":
        data, several = first_gif_frame(data)
    elif name == "TIFF":
        data, several = first_tiff_page(data, max_pixels)
    try:
        return _decode(data, name, max_pixels, several=several)
    except _DAMAGE as error:
        raise CorruptImageError(f"the {name} image can't be decoded: it is truncated or damaged") from error


def _decode(data: bytes, name: str, max_pixels: int, *, several: bool) -> Picture:
    with Image.open(io.BytesIO(data), formats=[name]) as image:
        check_size(*image.size, max_pixels)
        animated = name in ("PNG", "WEBP") and getattr(image, "is_animated", False)
        warnings = [_FIRST_FRAME] if several or animated else []
        pixels = _eight_bit(image)
        if _fills_little(image):
            warnings.append(_RANGE_UNUSED)
        return Picture(_upright(pixels, image), name, tuple(warnings))


def _upright(pixels: Image.Image, original: Image.Image) -> Image.Image:
    """`pixels` turned as the EXIF of `original` says; a TIFF's own orientation Pillow applies itself."""
    turn = _TURNS.get(exif_orientation(original.info.get("exif", b"")) or 1)
    return pixels if turn is None else pixels.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        top = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        pixels = scaled(np.asarray(image), top)
        # Pillow inverts such films at 8 bits and not at 16.
        return Image.fromarray(255 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels)
    if image.mode in ("I", "F"):
        raise UnsupportedImageError(f"{image.format} pixels of 32 bits have no known range; send 8 or 16 bits")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    return image.convert("RGB")


def _fills_little(image: Image.Image) -> bool:
    """Whether 16-bit values stay below 12 bits, as those of an unscaled film do."""
    if not image.mode.startswith("I;16") or getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0] != 16:
        return False
    return 0 < int(np.asarray(image).max()) < 2**12


def scaled(values: np.ndarray, top: int) -> UInt8Array:
    """Unsigned values `[H, W]` or `[H, W, 3]` of 0..`top` as 0..255, rounded.

    A band of rows at a time: whole temporaries would cost twenty bytes a pixel.
    """
    pixels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        band = np.minimum(values[start : start + 256].astype(np.uint32), top)
        pixels[start : start + 256] = (band * 255 + top // 2) // top
    return pixels


def to_input(
    picture: Picture, *, width: int, height: int, channels: int, fit: Fit, resize: Resize = "antialias"
) -> UInt8Array:
    """Resize `picture` to what the network takes: uint8 `[height, width, channels]`, 0..255.

    The region is as `seen_region` says, padding is black; one channel is ITU-R 601 luma. `antialias` is Pillow's
    bilinear filter, whose support grows with the reduction (what `keras.utils.load_img` calls bilinear); `bilinear`
    takes the four nearest pixels however much is reduced, as `tf.image.resize` and with it
    `keras.utils.image_dataset_from_directory` do; `nearest` takes one, as `load_img` does by default.
    """
    image = picture.image.convert("L") if channels == 1 else picture.image
    region = seen_region(picture.width, picture.height, width, height, fit)
    if fit == "pad":
        x, y = width / region.width, height / region.height  # input pixels per image pixel
        inner = (round(picture.width * x), round(picture.height * y))
        resized = Image.new(image.mode, (width, height))
        resized.paste(_resampled(image, inner, resize), (round(-region.left * x), round(-region.top * y)))
    else:
        # Cropped first: the `box` of `resize` lets the filter reach over the box's edge, to what must not be seen.
        box = (int(region.left), int(region.top), int(region.right), int(region.bottom))
        resized = _resampled(image.crop(box), (width, height), resize)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(height, width, channels)


def _resampled(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """An image of mode `L` or `RGB` at `size` (width, height)."""
    if resize == "antialias":
        return image.resize(size, Image.Resampling.BILINEAR)
    if resize == "nearest":
        return image.resize(size, Image.Resampling.NEAREST)
    pixels = np.atleast_3d(np.asarray(image))
    left, right, across = _neighbours(image.width, size[0])
    upper, lower, down = _neighbours(image.height, size[1])
    rows = [
        _between(pixels[np.ix_(row, left)], pixels[np.ix_(row, right)], across[None, :, None]) for row in (upper, lower)
    ]
    mixed = np.rint(_between(rows[0], rows[1], down[:, None, None])).astype(np.uint8)
    return Image.fromarray(mixed[..., 0] if image.mode == "L" else mixed)


def _neighbours(pixels: int, size: int) -> tuple[np.ndarray, np.ndarray, Float32Array]:
    """For each of `size` places along `pixels`: the pixel before, the one behind, and how far it is on the way.

    In single precision and in this order, to have TensorFlow's own places (`image_resizer_state.h`).
    """
    scale = np.float32(pixels) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    before = np.floor(place)
    index = before.astype(np.intp)
    return index.clip(0), (index + 1).clip(0, pixels - 1), place - before


def _between(first: np.ndarray, second: np.ndarray, share: Float32Array) -> Float32Array:
    start = first.astype(np.float32)
    return start + (second.astype(np.float32) - start) * share
