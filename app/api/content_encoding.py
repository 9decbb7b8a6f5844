"""Compressed request bodies: `Content-Encoding` (RFC 9110, section 8.4), within the limit of a body."""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable
from typing import Any

from app.errors import MalformedBodyError, UnsupportedEncodingError, UploadTooLargeError

# A chain of encodings is legal; a long one is an attack.
_MAX_ENCODINGS = 3


def decode_content(body: bytes, encodings: str, limit: int) -> bytes:
    """Undo the `Content-Encoding` of `body`.

    Args:
        body: the body as it was received.
        encodings: the value of the header, which lists the encodings in the order in which they were applied.
        limit: the largest number of bytes of the result, and of every intermediate step.

    Raises:
        UnsupportedEncodingError: if an encoding is not one of `ENCODINGS`.
        UploadTooLargeError: if the result exceeds `limit`.
        MalformedBodyError: if the body is not encoded as declared.
    """
    names = [name.strip().lower() for name in encodings.split(",") if name.strip()]
    if unknown := [name for name in names if name not in (*_DECODERS, "identity")]:
        raise UnsupportedEncodingError(f"content encoding {unknown[0][:40]!r} is not supported", ENCODINGS)
    if len(names) > _MAX_ENCODINGS:
        raise UnsupportedEncodingError(f"the body has {len(names)} content encodings", ENCODINGS)
    for name in reversed(names):
        if name == "identity":
            continue
        try:
            body = _DECODERS[name](body, limit)
        except (zlib.error, EOFError, ValueError) as error:
            raise MalformedBodyError(f"the body is not valid {name}, which its Content-Encoding declares") from error
    return body


def _inflate(body: bytes, limit: int, wbits: int) -> bytes:
    """Decompress a stream, or several one after the other, as gzip allows (RFC 1952, section 2.2)."""
    pieces, size, rest = [], 0, body
    while rest:
        inflater = zlib.decompressobj(wbits)
        piece = inflater.decompress(rest, limit + 1 - size)
        size += len(piece)
        if size > limit:
            raise UploadTooLargeError(f"the decompressed request body exceeds the limit of {limit} bytes")
        if not inflater.eof:
            raise EOFError
        pieces.append(piece)
        rest = inflater.unused_data if wbits == _GZIP else b""
    return b"".join(pieces)


_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(body, limit, _GZIP)


def _deflate(body: bytes, limit: int) -> bytes:
    # The standard specifies the zlib format, but some clients send a raw stream (RFC 9110, section 8.4.1.2).
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate(body, limit, _ZLIB if is_zlib else _RAW)


def _zstd(body: bytes, limit: int) -> bytes:
    zstd: Any = importlib.import_module("compression.zstd")
    inflater = zstd.ZstdDecompressor()
    try:
        content = inflater.decompress(body, limit + 1)
    except zstd.ZstdError as error:
        raise ValueError from error
    if len(content) > limit:
        raise UploadTooLargeError(f"the decompressed request body exceeds the limit of {limit} bytes")
    if not inflater.eof:
        raise EOFError
    return bytes(content)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}
if importlib.util.find_spec("compression") is not None:  # Python 3.14
    _DECODERS["zstd"] = _zstd
ENCODINGS = tuple(name for name in _DECODERS if not name.startswith("x-"))
