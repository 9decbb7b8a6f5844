"""PNG files whose notes are long, damaged or endless: their pixels are what they are."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app.errors import CorruptImageError
from app.imaging.decoding import decode
from app.imaging.headers import identify
from app.imaging.png import needed_chunks
from tests.pictures import encoded, noise

LIMIT = 1_000_000
FILM = noise(20, 30)


def chunk(kind: bytes, data: bytes, damage: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damage)


def with_chunks(*chunks: bytes, data: bytes | None = None) -> bytes:
    """A PNG with more chunks behind its header."""
    data = data or encoded(FILM)
    return data[:33] + b"".join(chunks) + data[33:]


LONG = zlib.compress(b"0123456789" * 300_000)
NOTES = {
    "a long text": chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "a long compressed text": chunk(b"zTXt", b"Comment\0\0" + LONG),
    "a long international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG),
    "a long profile": chunk(b"iCCP", b"profile\0\0" + LONG),
    "a damaged text": chunk(b"tEXt", b"Comment\0text", damage=1),
    "a damaged time": chunk(b"tIME", b"\7\xea\1\2\3\4\5", damage=1),
    "a damaged gamma": chunk(b"gAMA", struct.pack(">I", 45455), damage=1),
    "a damaged orientation": chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", damage=1),
    "a private one": chunk(b"prVt", b"x" * 100, damage=1),
    "texts that add up": chunk(b"zTXt", b"Comment\0\0" + LONG) * 40,
}


@pytest.mark.parametrize("name", NOTES)
def test_notes_do_not_spoil_a_film(name):
    """As browsers, which don't read them, or leave out what is damaged."""
    picture = decode(identify(with_chunks(NOTES[name])), max_pixels=LIMIT)
    assert (np.asarray(picture.image) == FILM).all()
    assert picture.warnings == ()


def test_the_orientation_is_one_that_is_read():
    """Where its CRC is right."""
    intact = chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0")
    picture = decode(identify(with_chunks(NOTES["a long text"], intact)), max_pixels=LIMIT)
    assert (np.asarray(picture.image) == np.rot90(FILM, -1)).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_damaged_chunk_of_the_pixels_is_damage(kind):
    """What is needed has to be right."""
    data = bytearray(encoded(Image.fromarray(FILM).convert("P")))
    data[data.index(kind) + 5] ^= 0xFF
    with pytest.raises(CorruptImageError, match="truncated or damaged"):
        decode(identify(bytes(data)), max_pixels=LIMIT)


def test_chunks_are_counted():
    """Millions of empty ones would hold a thread for a long time."""
    with pytest.raises(CorruptImageError, match="chunks"):
        decode(identify(with_chunks(chunk(b"tEXt", b"") * 200_000)), max_pixels=LIMIT)


def test_what_lies_behind_the_end_is_left_out():
    """As archives append it."""
    assert needed_chunks(encoded(FILM) + b"x" * 1000) == (encoded(FILM), False)
