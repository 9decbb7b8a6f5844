"""What decoding gives: upright 8-bit pixels, and what has to be said about them."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """Something that a reader of the answer has to know: `code` for programs, `detail` for people.

    `detail` never quotes what stood in a header: it may name a patient.
    """

    code: str
    detail: str


FIRST_FRAME = AnswerWarning("first_frame_only", "the image has several frames or pages; this answer is about the first")


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What a DICOM header says about the kind of image: coded terms in capitals, None where it says nothing.

    `modality` is (0008,0060), `body_part` (0018,0015), `view` (0018,5101) of DICOM PS3.6.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, upright.

    `image` has mode `L` (grey, kept grey because most films are) or `RGB`, 8 bits a channel; `format` names the
    container that it came in; `facts` is None for containers other than DICOM.
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
