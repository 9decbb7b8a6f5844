"""Decoding of image files, and their conversion to the network's input. Training and serving share this code."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image

from app.arrays import Float32Array, UInt8Array
from app.errors import QuestionError, UnsupportedImageError
from app.imaging.contrast import scaled, warn_if_lost
from app.imaging.dicom.reader import decode_dicom
from app.imaging.geometry import Fit, Resize, seen_region
from app.imaging.headers import EncodedImage, check_size, damaged, first_gif_frame, webp_size
from app.imaging.jpeg import decode_jpeg, exif_orientation, jpeg_frame
from app.imaging.jpeg2000 import decode_jpeg2000
from app.imaging.jpegxl import decode_jpegxl
from app.imaging.picture import FIRST_FRAME, AnswerWarning, Picture
from app.imaging.png import needed_chunks
from app.imaging.tiff import decode_page, first_tiff_page

# Pillow's own limit is global and only issues a warning. `decode` checks the limit of its caller before decoding.
Image.MAX_IMAGE_PIXELS = None

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's decoders raise many kinds of exceptions for damaged files, and document no common base class. This list is
# what they raise.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
)
_RANGE_UNUSED = AnswerWarning(
    "range_unused",
    "the pixels use less than a sixteenth of their 16-bit range, so the image is nearly black; scale them to 0..65535",
)


def decode(image: EncodedImage, *, max_pixels: int, frame: int | None = None) -> Picture:
    """Decode an image file to an upright image with 8 bits per channel.

    More than 8 bits are scaled from their full range (65535 of 16 bits becomes 255, and 4095 of 12 bits). An alpha
    channel is dropped. Of several frames only the first is decoded, with a warning. DICOM pixels are displayed as their
    header specifies (`app.imaging.dicom.presentation`).

    Args:
        image: the image file.
        max_pixels: the largest number of pixels of the image, or of one frame.
        frame: the frame of a DICOM object, counted from 1; None if it has only one.

    Raises:
        UnsupportedImageError: if the range of the pixel values is unknown.
        ImageTooLargeError: if the header declares more than `max_pixels` pixels; nothing is decoded then.
        QuestionError: if `frame` does not exist, or is None for a DICOM object with several frames.
        CorruptImageError: if the image is truncated or damaged, or has no pixels.
    """
    data, name = image.data, image.format
    if name == "DICOM":
        return decode_dicom(data, max_pixels=max_pixels, frame=frame)
    if frame not in (None, 1):
        raise QuestionError(
            f"there is no frame {frame} to choose: 'frame' applies to DICOM objects, and this is a {name} image"
        )
    if name in _OWN:
        return _OWN[name](data, max_pixels)
    several = False
    if name == "WEBP":
        check_size(*webp_size(data), max_pixels)  # Pillow allocates the canvas before it reports the size
    elif name == "GIF":
        data, several = first_gif_frame(data)
    elif name == "PNG":
        data, several = needed_chunks(data)
    return _by_pillow(data, name, max_pixels, several=several)


def _decode_jpeg(data: bytes, max_pixels: int) -> Picture:
    """Decode a JPEG: lossy with 8 bits by Pillow, everything else by imagecodecs."""
    header = jpeg_frame(data)
    if header.precision == 8 and not header.lossless:
        return _by_pillow(data, "JPEG", max_pixels)
    check_size(header.width, header.height, max_pixels)
    turn = exif_orientation(header.exif)
    return _deep(decode_jpeg(data, header), header.precision, "JPEG", turn)


def _decode_tiff(data: bytes, max_pixels: int) -> Picture:
    data, several, page = first_tiff_page(data, max_pixels)
    if page.for_pillow:
        return _by_pillow(data, "TIFF", max_pixels, several=several)
    check_size(page.width, page.height, max_pixels)
    warnings = (FIRST_FRAME,) if several else ()
    return _deep(decode_page(data, page), page.bits, "TIFF", page.orientation, warnings)


# Formats that Pillow can't decode, or only in part.
_OWN: dict[str, Callable[[bytes, int], Picture]] = {
    "JPEG": _decode_jpeg,
    "JPEG 2000": decode_jpeg2000,
    "JPEG XL": decode_jpegxl,
    "TIFF": _decode_tiff,
}


def _by_pillow(data: bytes, name: str, max_pixels: int, *, several: bool = False) -> Picture:
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            check_size(*image.size, max_pixels)
            animated = name in ("AVIF", "WEBP") and getattr(image, "is_animated", False)
            warnings = (FIRST_FRAME,) if several or animated else ()
            # Pillow itself applies the orientation tag of a TIFF.
            turn = exif_orientation(image.info.get("exif", b""))
            if image.mode.startswith("I;16"):
                return _deep(np.asarray(image), 16, name, turn, warnings)
            return Picture(_turned(_eight_bit(image), turn), name, warnings)
    except _DAMAGE as error:
        raise damaged(name) from error


def _deep(
    values: np.ndarray, bits: int, name: str, orientation: int | None, warnings: tuple[AnswerWarning, ...] = ()
) -> Picture:
    """Make a picture from unsigned values with `bits` bits, `[H, W]` or `[H, W, 3]`."""
    pixels = scaled(values, 2**bits - 1)
    if bits == 16 and 0 < int(values.max()) < 2**12:  # like the pixels of an unscaled radiograph
        warnings = (*warnings, _RANGE_UNUSED)
    elif values.ndim == 2 and values.dtype == np.uint16:
        warnings = (*warnings, *warn_if_lost(values, pixels))
    return Picture(_turned(Image.fromarray(pixels), orientation), name, warnings)


def _turned(pixels: Image.Image, orientation: int | None) -> Image.Image:
    """Turn `pixels` by an EXIF or TIFF orientation from 1 to 8."""
    turn = _TURNS.get(orientation or 1)
    return pixels if turn is None else pixels.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise UnsupportedImageError(f"the range of 32-bit {image.format} pixels is unknown; send 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def to_input(
    picture: Picture, *, width: int, height: int, channels: int, fit: Fit, resize: Resize = "antialias"
) -> UInt8Array:
    """Convert `picture` to the input of the network: uint8 `[height, width, channels]`, 0..255.

    `seen_region` defines the visible region; padding is black. A single channel is ITU-R 601 luma. `antialias` is
    Pillow's bilinear filter, whose support grows with the scale of reduction (the bilinear of `keras.utils.load_img`).
    `bilinear` interpolates between the four nearest pixels at any scale, like `tf.image.resize` and therefore
    `keras.utils.image_dataset_from_directory`. `nearest` takes the nearest pixel, the default of `load_img`.
    """
    image = picture.image.convert("L") if channels == 1 else picture.image
    region = seen_region(picture.width, picture.height, width, height, fit)
    if fit == "pad":
        x, y = width / region.width, height / region.height  # input pixels per image pixel
        inner = (round(picture.width * x), round(picture.height * y))
        resized = Image.new(image.mode, (width, height))
        resized.paste(_resampled(image, inner, resize), (round(-region.left * x), round(-region.top * y)))
    else:
        # Crop first: with the `box` argument of `resize`, the filter would include pixels outside the box.
        box = (int(region.left), int(region.top), int(region.right), int(region.bottom))
        resized = _resampled(image.crop(box), (width, height), resize)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(height, width, channels)


def _resampled(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """Resample an image of mode `L` or `RGB` to `size` (width, height)."""
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
    """Return the two pixels next to each of `size` positions along an axis, and the weight of the second pixel.

    The order of operations and their single precision are those of TensorFlow (`image_resizer_state.h`).
    """
    scale = np.float32(pixels) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    before = np.floor(place)
    index = before.astype(np.intp)
    return index.clip(0), (index + 1).clip(0, pixels - 1), place - before


def _between(first: np.ndarray, second: np.ndarray, share: Float32Array) -> Float32Array:
    start = first.astype(np.float32)
    return start + (second.astype(np.float32) - start) * share
