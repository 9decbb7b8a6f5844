"""Bodies of KServe V1 and of TensorFlow Serving: a row of `instances`, or columns of `inputs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.api.protocols.images import ENCODED, PIXELS, each_image
from app.api.protocols.json_document import member, pixels_of, read_document
from app.api.upload import decode_base64
from app.errors import MalformedBodyError, NoImageError, QuestionError, UnknownNameError
from app.imaging.headers import identify
from app.imaging.network_input import InputImage, NetworkInput

SIGNATURES = ("serving_default", "pixels")
# The names under which an instance has its image. Clients give it many; the last three are those of KServe's examples.
_NAMES = (ENCODED, PIXELS, "file", "image_bytes", "data", "bytes")


@dataclass(frozen=True, slots=True)
class Instances:
    """A request: its images, its parameters, and whether it has them in columns."""

    images: list[InputImage]
    parameters: list[tuple[str, object]]
    columns: bool


def read_instances(body: bytes, limit: int) -> Instances:
    """Parse the body of a request with at most `limit` images. A large one takes a second, so call it from a worker.

    Keys that it does not know are ignored, because clients add their own.

    Raises:
        MalformedBodyError: if the body is not JSON, or has neither `instances` nor `inputs`, or both.
        UnknownNameError: if `signature_name` is unknown.
        InputError: as of `each_image`.
    """
    document = read_document(body)
    signature = member(document, "signature_name", str, "") or SIGNATURES[0]
    if signature not in SIGNATURES:
        raise UnknownNameError("signature", signature, SIGNATURES)
    parameters = list(member(document, "parameters", dict, {}).items())
    columns = "inputs" in document
    if columns == ("instances" in document):
        raise MalformedBodyError('the JSON has neither or both of "instances" and "inputs"; send one of them')
    rows = _rows(document["inputs"]) if columns else member(document, "instances", list, [])
    return Instances(each_image(rows, limit, _image), parameters, columns)


def _rows(columns: object) -> list[Any]:
    """Return the rows of `inputs`: the only column, alone or by its name, or a single image."""
    if isinstance(columns, dict) and "b64" not in columns:
        names = [name for name in columns if name in (ENCODED, PIXELS)]
        if len(columns) != 1 or not names:
            raise QuestionError(f"'inputs' has other columns than one of {ENCODED!r} and {PIXELS!r}")
        columns = columns[names[0]]
    return columns if isinstance(columns, list) else [columns]


def _image(instance: object) -> InputImage:
    """Return the image of one instance: `{"b64": …}`, base64 text, pixels `[H, W, C]`, or an object that has one."""
    if isinstance(instance, dict) and "b64" not in instance:
        found = [instance[name] for name in _NAMES if name in instance]
        if len(found) != 1:
            raise NoImageError('the instance has no image, or several; send {"b64": "<base64>"}')
        instance = found[0]
    if isinstance(instance, list):
        return NetworkInput(pixels_of(instance))
    text = instance.get("b64") if isinstance(instance, dict) else instance
    if not isinstance(text, str):
        raise MalformedBodyError('the instance is no image; send {"b64": "<base64>"}')
    return identify(decode_base64(text))
