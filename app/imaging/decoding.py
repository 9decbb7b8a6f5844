"""Decoding of image files, and their conversion to the network's input. Training and serving share this code."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from app.arrays import UInt8Array
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
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
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
    struct.error,
)
_FIRST_FRAME = AnswerWarning("first_frame_only", "the image has several frames or pages; only the first one was used")
_RANGE_UNUSED = AnswerWarning(
    "range_unused",
    "the pixels use less than a sixteenth of their 16-bit range, so the image is nearly black; scale them to 0..65535",
)


def decode(image: EncodedImage, *, max_pixels: int, frame: int | None = None) -> Picture:
    """Decode an image file to an upright image with 8 bits per channel.

    16-bit grey is scaled from the full range of its type (65535 becomes 255), and 12-bit JPEG and TIFF likewise (4095
    becomes 255). An alpha channel is dropped. Of several frames only the first is decoded, with a warning. DICOM pixels
    are displayed as their header specifies (`app.imaging.dicom.presentation`).

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
    several = False
    if name == "JPEG" and ((header := jpeg_frame(data)).precision != 8 or header.lossless):
        check_size(header.width, header.height, max_pixels)
        values = decode_jpeg(data, header)
        return Picture(Image.fromarray(scaled(values, 2**header.precision - 1)), name)
    if name == "WEBP":
        check_size(*webp_size(data), max_pixels)  # Pillow allocates the canvas before it reports the size
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
    """Turn `pixels` by the EXIF orientation of `original`. Pillow itself applies the orientation tag of a TIFF."""
    turn = _TURNS.get(exif_orientation(original.info.get("exif", b"")) or 1)
    return pixels if turn is None else pixels.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})  # TIFF only
        top = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        pixels = scaled(np.asarray(image), top)
        # Pillow inverts WhiteIsZero images with 8 bits, but not with 16.
        return Image.fromarray(255 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels)
    if image.mode in ("I", "F"):
        raise UnsupportedImageError(f"the range of 32-bit {image.format} pixels is unknown; send 8 or 16 bits")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    return image.convert("RGB")


def _fills_little(image: Image.Image) -> bool:
    """Return whether 16-bit values fit into 12 bits, as those of an unscaled radiograph do."""
    if not image.mode.startswith("I;16") or getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0] != 16:
        return False
    return 0 < int(np.asarray(image).max()) < 2**12


def scaled(values: np.ndarray, top: int) -> UInt8Array:
    """Scale unsigned values `[H, W]` or `[H, W, 3]` from 0..`top` to 0..255, rounded.

    The function processes bands of rows, because temporary arrays of the whole image would take 20 bytes per pixel.
    """
    pixels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        band = np.minimum(values[start : start + 256].astype(np.uint32), top)
        pixels[start : start + 256] = (band * 255 + top // 2) // top
    return pixels


def to_input(picture: Picture, *, width: int, height: int, channels: int, fit: Fit) -> UInt8Array:
    """Convert `picture` to the input of the network: uint8 `[height, width, channels]`, 0..255.

    `seen_region` defines the visible region; padding is black. Resampling is antialiased bilinear (Pillow's, whose
    support grows with the scale of reduction). A single channel is ITU-R 601 luma.
    """
    image = picture.image.convert("L") if channels == 1 else picture.image
    region = seen_region(picture.width, picture.height, width, height, fit)
    if fit == "pad":
        x, y = width / region.width, height / region.height  # input pixels per image pixel
        inner = (round(picture.width * x), round(picture.height * y))
        resized = Image.new(image.mode, (width, height))
        resized.paste(image.resize(inner, Image.Resampling.BILINEAR), (round(-region.left * x), round(-region.top * y)))
    else:
        # Crop first: with the `box` argument of `resize`, the filter would include pixels outside the box.
        box = (int(region.left), int(region.top), int(region.right), int(region.bottom))
        resized = image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(height, width, channels)
