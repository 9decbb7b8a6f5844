"""The image bytes inside a request body: a multipart field `file`, the raw bytes, or JSON `{"image": "<base64>"}`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import MalformedBodyError, NoImageError
from app.imaging.headers import EncodedImage, identify, sniff
from app.serving.workers import Workers

_MAX_PARTS = 16
# No base64 has these marks; a body of millions of them would hold the event loop for seconds.
_MAX_MARKS = 64


async def read_image(body: bytes, headers: Headers, workers: Workers) -> EncodedImage:
    """The image file in a request's `body`, and its format, which its first bytes decide.

    A body that starts with an image's magic bytes is that image, whatever its content type says: `curl --data-binary`
    declares everything a form.

    Raises:
        NoImageError: there is no image where one should be.
        UnsupportedImageError: the first bytes announce no supported format.
        MalformedBodyError: the multipart form, the JSON or its base64 can't be read.
    """
    if not body:
        raise NoImageError("the request has no body; send an image as form field 'file', as raw bytes, or in JSON")
    if (name := sniff(body)) is not None:
        return EncodedImage(body, name)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        # Starlette's parser is asynchronous, so the worker runs an event loop of its own; a large form takes 70 ms.
        return identify(await workers.run(lambda: asyncio.run(_from_form(body, headers))))
    if media_type == "application/json" or body.lstrip()[:1] == b"{":
        return identify(await workers.run(lambda: _from_json(body)))
    return identify(body)


def _from_json(body: bytes) -> bytes:
    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > _MAX_MARKS:
        raise MalformedBodyError('the JSON body holds more than an image; send {"image": "<base64>"}')
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError("the body is not valid JSON") from error
    image = document.get("image") if isinstance(document, dict) else None
    if not isinstance(image, str) or not image:
        raise NoImageError('the JSON body holds no image; send {"image": "<base64>"}')
    try:
        # Line breaks are what `base64` prints; everything else outside of the alphabet is a mistake.
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedBodyError("'image' is not valid base64") from error


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, kept from writing to disk: the body is in memory already, and bounded."""

    spool_max_size = sys.maxsize


async def _from_form(body: bytes, headers: Headers) -> bytes:
    # Starlette leaves out a part that was cut short, and leaves its file open.
    boundary = parse_options_header(headers["content-type"])[1].get(b"boundary")
    if boundary and b"--" + boundary + b"--" not in body:
        raise MalformedBodyError("the multipart form is cut short: its closing boundary is missing")

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    try:
        form = await _InMemoryParser(headers, stream(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS).parse()
    except MultiPartException as error:
        raise MalformedBodyError(f"the multipart form can't be read: {error.message}") from error
    except UnicodeError as error:  # of a charset that the content type names, and no form has
        raise MalformedBodyError("the multipart form can't be read: its charset does not fit") from error
    try:
        files = form.getlist("file")
        if len(files) != 1:
            raise NoImageError(f"the form has {len(files)} complete fields named 'file'; send exactly one")
        if not isinstance(files[0], UploadFile):
            raise NoImageError("the form field 'file' holds text, not a file")
        return await files[0].read()
    finally:
        await form.close()
