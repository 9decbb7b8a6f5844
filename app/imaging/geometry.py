"""The region of an image that the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fit = Literal["squash", "crop", "pad"]
Resize = Literal["antialias", "bilinear", "nearest"]
# Left, top, right and bottom of a part, as fractions of the width and height of the whole.
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Region:
    """A box in pixel coordinates of the original image, whose integers are pixel edges.

    It extends beyond the image if the input has padding. In a `[h, w]` grid over the region, the centre of cell (i, j)
    is `(left + (j + ½)·width / w, top + (i + ½)·height / h)`.
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def box(self, width: float, height: float) -> Box:
        """Return the region as a part of an image of `width` x `height`."""
        return self.left / width, self.top / height, self.right / width, self.bottom / height

    def meets(self, width: float, height: float) -> bool:
        """Return whether a part of the region is inside an image of `width` x `height`."""
        return self.left < width and self.right > 0 and self.top < height and self.bottom > 0

    def scaled(self, x: float, y: float) -> Region:
        """Return the same region of an image that is resized by the factors `x` and `y`."""
        return Region(self.left * x, self.top * y, self.right * x, self.bottom * y)

    def part(self, box: Box) -> Region:
        """Return the part of this region inside `box`, which may extend beyond 0..1 and therefore beyond the region."""
        left, top, right, bottom = box
        return Region(
            self.left + left * self.width,
            self.top + top * self.height,
            self.left + right * self.width,
            self.top + bottom * self.height,
        )


def seen_region(width: int, height: int, input_width: int, input_height: int, fit: Fit) -> Region:
    """Return the region of a `width` x `height` image that fills an input of `input_width` x `input_height`.

    `squash` is the whole image, whatever its aspect ratio. `crop` is the largest centred box with the aspect ratio of
    the input, in whole pixels of the image. `pad` is the smallest centred box with that aspect ratio that contains the
    whole image, in whole pixels of the input.
    """
    if fit == "squash":
        return Region(0, 0, width, height)
    if fit == "crop":
        box_width = max(1, min(width, round(height * input_width / input_height)))
        box_height = max(1, min(height, round(width * input_height / input_width)))
        x, y = (width - box_width) // 2, (height - box_height) // 2
        return Region(x, y, x + box_width, y + box_height)
    # The size of the resized image inside the input, in whole pixels.
    if width * input_height > height * input_width:
        inner_width, inner_height = input_width, max(1, round(height * input_width / width))
    else:
        inner_width, inner_height = max(1, round(width * input_height / height)), input_height
    across, down = width / inner_width, height / inner_height  # image pixels per input pixel
    left, top = (input_width - inner_width) // 2, (input_height - inner_height) // 2
    return Region(-left * across, -top * down, (input_width - left) * across, (input_height - top) * down)
