"""Request bodies: an image and parameters in a multipart form or in JSON, or an image as raw bytes."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from app.errors import MalformedBodyError, NoImageError
from app.imaging.headers import EncodedImage, identify, sniff

# Fields of a form, and keys of a JSON body, that contain the image.
_IMAGE_FIELDS = ("file", "image")
_MAX_PARTS = 32
_MAX_PARAMETER_BYTES = 64 * 1024
# A valid body has few of these characters, and base64 has none; parsing millions of them would take seconds.
_MAX_MARKS = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """The content of a request body: the image, and the name and value of each parameter."""

    image: EncodedImage
    parameters: list[tuple[str, object]] = field(default_factory=list)


def read_upload(body: bytes, headers: Headers) -> Upload:
    """Parse the `body` of a request. A large body takes 70 ms, so call it from a worker.

    A body that starts with the magic bytes of an image is read as raw bytes, whatever its content type, because
    `curl --data-binary` declares every body to be a form.

    Raises:
        NoImageError: if the body contains no image.
        UnsupportedImageError: if the first bytes are not those of a supported format.
        MalformedBodyError: if the multipart form, the JSON or its base64 can't be parsed.
    """
    if not body:
        raise NoImageError("the request has no body; send an image as form field 'file', as raw bytes, or in JSON")
    if (name := sniff(body)) is not None:
        return Upload(EncodedImage(body, name))
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return _from_form(body, headers["content-type"])
    if media_type == "application/json" or body.lstrip()[:1] == b"{":
        return _from_json(body)
    return Upload(identify(body))


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, in order, including repeated ones."""


def _from_json(body: bytes) -> Upload:
    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > _MAX_MARKS:
        raise MalformedBodyError('the JSON body contains more than an image and parameters; send {"image": "<base64>"}')
    try:
        document = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError("the body is not valid JSON") from error
    pairs = document if isinstance(document, _Pairs) else _Pairs()
    images = [value for name, value in pairs if name in _IMAGE_FIELDS]
    if len(images) != 1 or not isinstance(images[0], str) or not images[0]:
        raise NoImageError('the JSON body contains no image, or several; send {"image": "<base64>"}')
    parameters = [(name, value) for name, value in pairs if name not in _IMAGE_FIELDS]
    return Upload(identify(decode_base64(images[0])), parameters)


def decode_base64(text: str) -> bytes:
    """Decode the base64 of an image (RFC 4648, sections 4 and 5), with or without padding, or a `data:` URL (RFC 2397).

    Raises:
        MalformedBodyError: if `text` is neither.
    """
    if text.startswith("data:"):
        declaration, _, text = text.partition(",")
        if not declaration.endswith(";base64"):
            raise MalformedBodyError("the image is a data: URL that is not base64")
    # The command `base64` prints line breaks; every other character outside the alphabets is an error.
    digits = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedBodyError("the image is not valid base64") from error


@dataclass(slots=True)
class _Part:
    """One part of a form: its headers by lower-case name, and the pieces of its content."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)

    @property
    def _options(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get(b"content-disposition", b""))[1]

    @property
    def name(self) -> str:
        """The name of its field (RFC 7578, section 4.2); empty if it has none."""
        return self._options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def has_filename(self) -> bool:
        return b"filename" in self._options

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)


class _Form:
    """Collects the parts of a form from the callbacks of python-multipart."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._name = b""
        self._value = b""

    def parse(self, body: bytes, boundary: bytes) -> list[_Part]:
        """Return the parts of `body`, in order."""
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": lambda data, start, end: self.parts[-1].pieces.append(data[start:end]),
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
            },
        )
        parser.write(body)
        parser.finalize()
        return self.parts

    def _begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise MalformedBodyError(f"the multipart form has more than {_MAX_PARTS} parts")
        self.parts.append(_Part())

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""


def _from_form(body: bytes, content_type: str) -> Upload:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBodyError("the multipart form can't be parsed: its content type has no boundary")
    delimiter = b"--" + boundary
    # The parser drops a truncated part without an error.
    if delimiter + b"--" not in body:
        raise MalformedBodyError("the multipart form is truncated: its closing boundary is missing")
    if not body.startswith(delimiter):  # a preamble (RFC 2046, section 5.1.1)
        body = body[body.find(b"\r\n" + delimiter) + 2 :]
    try:
        parts = _Form().parse(body, boundary)
    except FormParserError as error:
        raise MalformedBodyError(f"the multipart form can't be parsed: {error}") from error
    images = [part for part in parts if part.name in _IMAGE_FIELDS]
    if len(images) != 1:
        raise NoImageError(f"the form has {len(images)} fields named 'file' or 'image'; send exactly one")
    content = images[0].content
    if sniff(content) is None and not images[0].has_filename:
        raise NoImageError(f"the form field {images[0].name!r} contains text, not an image file")
    parameters: list[tuple[str, object]] = [(p.name, _text(p)) for p in parts if p.name not in _IMAGE_FIELDS]
    return Upload(identify(content), parameters)


def _text(part: _Part) -> str:
    content = part.content
    if len(content) > _MAX_PARAMETER_BYTES:
        raise MalformedBodyError(f"the form field {part.name[:80]!r} is too long for a parameter")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"the form field {part.name[:80]!r} is not UTF-8 text") from error
