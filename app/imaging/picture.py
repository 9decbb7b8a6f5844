"""Decoded images, with facts and warnings about them."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """A reason to doubt an answer: `code` for programs, `detail` for people.

    `detail` never quotes a header, which may contain a patient's name.
    """

    code: str
    detail: str


FIRST_FRAME = AnswerWarning("first_frame_only", "the image has several frames or pages; only the first one was used")


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """The kind of image according to a DICOM header: defined terms in capitals, or None for missing elements.

    `modality` is the element (0008,0060), `body_part` (0018,0015), and `view` (0018,5101); see DICOM PS3.6.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, upright.

    `image` has the mode `L` or `RGB`, with 8 bits per channel. `format` is the format of its file, and `facts` is None
    unless that is DICOM.
    """

    image: Image.Image
    format: str
    warnings: tuple[AnswerWarning, ...] = ()
    facts: HeaderFacts | None = None

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height
