"""The images of a request, from the parts of it that carry them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from app.api.protocols.tensors import Tensor
from app.errors import NoImageError, TensorError, UploadTooLargeError, of_image
from app.imaging.headers import identify
from app.imaging.network_input import InputImage, NetworkInput

T = TypeVar("T")

ENCODED, PIXELS = "image", "images"
DATATYPES = {ENCODED: "BYTES", PIXELS: "UINT8"}


def each_image(parts: Sequence[T], limit: int, read: Callable[[T], InputImage]) -> list[InputImage]:
    """Read every image of a request.

    Raises:
        NoImageError: if there is none.
        UploadTooLargeError: if there are more than `limit`.
        InputError: if `read` raises it; the message names the image.
    """
    if not parts:
        raise NoImageError("the request contains no image")
    if len(parts) > limit:
        raise UploadTooLargeError(f"the request contains {len(parts)} images; the limit is {limit}")
    images = []
    for index, part in enumerate(parts):
        with of_image(index, len(parts)):
            images.append(read(part))
    return images


def images_of(inputs: Sequence[Tensor], limit: int) -> list[InputImage]:
    """Return the images of a request with input tensors: `image`, `BYTES` `[B]`, or `images`, `UINT8` `[B, H, W, C]`.

    Raises:
        TensorError: if the request has other inputs, or an input of another datatype or shape.
        InputError: as of `each_image`.
    """
    if len(inputs) != 1 or inputs[0].name not in DATATYPES:
        names = ", ".join(repr(each.name[:80]) for each in inputs[:4]) or "none"
        raise TensorError(f"the inputs are {names}; send either {ENCODED!r} (BYTES) or {PIXELS!r} (UINT8)")
    (tensor,) = inputs
    if tensor.datatype != DATATYPES[tensor.name]:
        raise TensorError(f"input {tensor.name!r} is {tensor.datatype[:80]}; expected {DATATYPES[tensor.name]}")
    if isinstance(tensor.data, list):
        if len(tensor.shape) != 1 and tensor.shape[1:] != (1,):
            raise TensorError(f"input {ENCODED!r} has the shape {list(tensor.shape)}; expected [B], or [B, 1]")
        return each_image(tensor.data, limit, identify)
    if len(tensor.shape) != 4:
        raise TensorError(f"input {PIXELS!r} has the shape {list(tensor.shape)}; expected [B, H, W, C]")
    # Without any pixels, a batch of any size fits the data.
    if 0 in tensor.shape[1:]:
        raise TensorError(f"input {PIXELS!r} has no pixels: its shape is {list(tensor.shape)}")
    pixels = tensor.data.reshape(tensor.shape)
    return each_image(range(len(pixels)), limit, lambda index: NetworkInput(pixels[index]))
