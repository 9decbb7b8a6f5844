"""PNG files (W3C, "Portable Network Graphics", third edition), reduced to the chunks that define their pixels."""

from __future__ import annotations

import zlib

from app.errors import CorruptImageError

_SIGNATURE = 8
_FRAME_AND_CRC = 12
_MAX_CHUNKS = 100_000


def needed_chunks(data: bytes) -> tuple[bytes, bool]:
    """Return the PNG in `data` without ancillary chunks, and whether it is an animation with several frames.

    Texts, profiles and times are dropped without being parsed, whatever their length and CRC, because they don't define
    pixels. The orientation (`eXIf`) is kept if its CRC is correct. Pillow checks the other chunks.

    Raises:
        CorruptImageError: if there are too many chunks.
    """
    kept, at, animated = [data[:_SIGNATURE]], _SIGNATURE, False
    for _ in range(_MAX_CHUNKS):
        kind = data[at + 4 : at + 8]
        end = at + _FRAME_AND_CRC + int.from_bytes(data[at : at + 4], "big")
        if len(kind) < 4 or end > len(data):  # truncated; Pillow reports it
            kept.append(data[at:])
            break
        if kind == b"acTL":
            animated = int.from_bytes(data[at + 8 : at + 12], "big") > 1
        if not kind[0] & 0x20 or (kind == b"eXIf" and _is_intact(data[at + 4 : end])):
            kept.append(data[at:end])
        if kind == b"IEND":
            break
        at = end
    else:
        raise CorruptImageError(f"the PNG image has more than {_MAX_CHUNKS} chunks")
    return b"".join(kept), animated


def _is_intact(chunk: bytes) -> bool:
    """Return whether the CRC of a chunk, its last four bytes, matches its type and data."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")
