"""Images that are the input of a network already, and so are neither decoded nor resized."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from app.arrays import UInt8Array
from app.errors import QuestionError
from app.imaging.headers import EncodedImage
from app.imaging.picture import Picture


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """The input of a network for one image: `pixels`, uint8 `[H, W, C]` in 0..255, with 1 or 3 channels."""

    pixels: UInt8Array

    @property
    def data(self) -> bytes:
        """The pixels as bytes, row by row, with the channels of a pixel next to each other."""
        return self.pixels.tobytes()

    def picture(self, height: int, width: int, channels: int, *, frame: int | None = None) -> Picture:
        """Return the pixels as a picture, for a network whose input is `[height, width, channels]`.

        Raises:
            QuestionError: if the pixels have another shape, or `frame` names another frame than the only one.
        """
        if frame not in (None, 1):
            raise QuestionError(f"there is no frame {frame} to choose: 'frame' applies to DICOM objects, not to pixels")
        if self.pixels.shape != (height, width, channels):
            raise QuestionError(
                f"the pixels have the shape {list(self.pixels.shape)}; this model takes {[height, width, channels]}"
            )
        return Picture(Image.fromarray(self.pixels[..., 0] if channels == 1 else self.pixels), "raw")


InputImage = EncodedImage | NetworkInput
