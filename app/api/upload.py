"""Request bodies: reads the image from a multipart field `file`, raw bytes, or JSON `{"image": "<base64>"}`."""

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
# A valid body has one of these characters, and base64 has none; parsing millions of them would take seconds.
_MAX_MARKS = 64


async def read_image(body: bytes, headers: Headers, workers: Workers) -> EncodedImage:
    """Return the image file in the `body` of a request. Its first bytes determine its format.

    A body that starts with the magic bytes of an image is taken as raw bytes whatever its content type, because
    `curl --data-binary` declares every body to be a form.

    Raises:
        NoImageError: if the body contains no image.
        UnsupportedImageError: if the first bytes are not those of a supported format.
        MalformedBodyError: if the multipart form, the JSON or its base64 can't be parsed.
    """
    if not body:
        raise NoImageError("the request has no body; send an image as form field 'file', as raw bytes, or in JSON")
    if (name := sniff(body)) is not None:
        return EncodedImage(body, name)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        # A large form takes 70 ms. Starlette's parser is asynchronous, so the worker runs its own event loop.
        return identify(await workers.run(lambda: asyncio.run(_from_form(body, headers))))
    if media_type == "application/json" or body.lstrip()[:1] == b"{":
        return identify(await workers.run(lambda: _from_json(body)))
    return identify(body)


def _from_json(body: bytes) -> bytes:
    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > _MAX_MARKS:
        raise MalformedBodyError('the JSON body contains more than an image; send {"image": "<base64>"}')
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError("the body is not valid JSON") from error
    image = document.get("image") if isinstance(document, dict) else None
    if not isinstance(image, str) or not image:
        raise NoImageError('the JSON body contains no image; send {"image": "<base64>"}')
    try:
        # The command `base64` prints line breaks; every other character outside the alphabet is an error.
        return base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedBodyError("'image' is not valid base64") from error


class _InMemoryParser(MultiPartParser):
    """Starlette's parser without temporary files: the body is in memory already, and its size is limited."""

    spool_max_size = sys.maxsize


async def _from_form(body: bytes, headers: Headers) -> bytes:
    # Starlette drops a truncated part silently, and leaves its file open.
    boundary = parse_options_header(headers["content-type"])[1].get(b"boundary")
    if boundary and b"--" + boundary + b"--" not in body:
        raise MalformedBodyError("the multipart form is truncated: its closing boundary is missing")

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    try:
        form = await _InMemoryParser(headers, stream(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS).parse()
    except MultiPartException as error:
        raise MalformedBodyError(f"the multipart form can't be parsed: {error.message}") from error
    except UnicodeError as error:  # the content type may name any charset
        raise MalformedBodyError("the multipart form can't be parsed: it declares the wrong charset") from error
    try:
        files = form.getlist("file")
        if len(files) != 1:
            raise NoImageError(f"the form has {len(files)} complete fields named 'file'; send exactly one")
        if not isinstance(files[0], UploadFile):
            raise NoImageError("the form field 'file' contains text, not a file")
        return await files[0].read()
    finally:
        await form.close()
