"""Bodies and requests that nobody means well by, made by code: what each is, and the status that answers it."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.pictures import constant, encoded, noise

FILM = encoded(noise(40, 60))
KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")


@dataclass(frozen=True)
class Attack:
    """A request to an image endpoint: what httpx is given, the query, and the statuses that may answer it."""

    request: dict[str, Any]
    statuses: frozenset[int]
    query: dict[str, str] | str = field(default_factory=dict)


def attack(*statuses: int, query: dict[str, str] | str = "", **request: Any) -> Attack:
    return Attack(request, frozenset(statuses), query)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int) -> bytes:
    """A PNG of side² pixels in a few hundred bytes, its rows missing."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(100_000), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose comment is 100 MB of the same letter, compressed."""
    comment = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"a" * 100_000_000, 9))
    return FILM[:33] + comment + FILM[33:]


def polyglot() -> bytes:
    """A PNG that is a ZIP as well."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("evil.html", "<script>alert(1)</script>")
    return FILM + packed.getvalue()


def animation(kind: str) -> bytes:
    """Forty pictures in one file."""
    frames = [Image.fromarray(noise(16, 16, 3, seed=seed)) for seed in range(40)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def absurd_exif() -> bytes:
    """A JPEG whose orientation is 60,000."""
    exif = Image.Exif()
    exif[0x0112] = 60_000
    return encoded(Image.fromarray(noise()), "JPEG", exif=exif)


def form(*parts: tuple[str, str | None, bytes], boundary: str = "edge") -> dict[str, Any]:
    """A multipart form, as written by hand: each part's name, file name and content."""
    body = b""
    for name, filename, content in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return {"content": body, "headers": {"content-type": f"multipart/form-data; boundary={boundary}"}}


def json_body(text: str | bytes) -> dict[str, Any]:
    return {"content": text, "headers": {"content-type": "application/json"}}


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


CORPUS: dict[str, Attack] = {
    # bodies that are no image
    "empty": attack(400, content=b""),
    "one byte": attack(415, content=b"\x00"),
    "only magic bytes": attack(422, content=FILM[:8]),
    "text": attack(415, content=b"a film, I promise"),
    "a page": attack(415, content=b"<html><script>alert(1)</script></html>"),
    "an SVG": attack(415, content=b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    "a PDF": attack(415, content=b"%PDF-1.7\n%\xe2\xe3"),
    "a ZIP": attack(415, content=b"PK\x03\x04" + bytes(100)),
    "a program": attack(415, content=b"\x7fELF" + bytes(100)),
    "non-UTF-8": attack(415, content=b"\xff\xfe\xfd" * 50),
    # images that are not what they say
    **{f"a truncated {kind}": attack(422, content=encoded(noise(200, 200), kind)[:900]) for kind in KINDS},
    **{
        f"a {kind} of noise": attack(413, 422, content=encoded(noise(), kind)[:16] + noise(40, 50).tobytes())
        for kind in KINDS
    },
    "a PNG of 50,000 x 50,000": attack(413, content=huge_png(50_000)),
    "a PNG of 4,294,967,295²": attack(413, 422, content=huge_png(2**31 - 1)),
    "a PNG without pixels": attack(422, content=huge_png(0)),
    "a PNG whose comment is a bomb": attack(200, 413, 422, content=text_bomb()),
    "a PNG that is a ZIP": attack(200, content=polyglot()),
    "an animated PNG": attack(200, content=animation("PNG")),
    "an animated WebP": attack(200, content=animation("WEBP")),
    "a TIFF of forty pages": attack(200, content=animation("TIFF")),
    "absurd EXIF": attack(200, content=absurd_exif()),
    "one pixel": attack(200, content=encoded(np.zeros((1, 1), np.uint8))),
    "a line of pixels": attack(200, content=encoded(constant(9, 1, 3000))),
    # forms
    "a form without parts": attack(400, **form()),
    "an empty part": attack(400, **form(("file", "x.png", b""))),
    "a wrong field name": attack(400, **form(("picture", "x.png", FILM))),
    "text instead of a file": attack(400, **form(("file", None, b"x.png"))),
    "two files": attack(400, **form(("file", "a.png", FILM), ("file", "b.png", FILM))),
    "twenty parts": attack(400, **form(*[(f"p{number}", "x.png", FILM) for number in range(20)])),
    "a file name that is a path": attack(200, **form(("file", "../../../etc/passwd", FILM))),
    "a file name with a null byte": attack(200, 400, **form(("file", "x\x00.png", FILM))),
    "a form cut short": attack(
        400,
        content=form(("file", "x.png", FILM))["content"][:-12],
        headers={"content-type": "multipart/form-data; boundary=edge"},
    ),
    "a form without a boundary": attack(400, content=b"--x", headers={"content-type": "multipart/form-data"}),
    # JSON
    "JSON cut short": attack(400, **json_body('{"image": "')),
    "a list": attack(400, **json_body("[]")),
    "a number": attack(400, **json_body("7")),
    "an image that is a number": attack(400, **json_body('{"image": 7}')),
    "an image that is null": attack(400, **json_body('{"image": null}')),
    "base64 that isn't": attack(400, **json_body('{"image": "no base64!"}')),
    "base64 of a page": attack(415, **json_body(f'{{"image": "{as_base64(b"<html></html>")}"}}')),
    "base64 of nothing": attack(400, **json_body('{"image": ""}')),
    "deep JSON": attack(400, **json_body("[" * 100_000 + "]" * 100_000)),
    "wide JSON": attack(400, **json_body('{"image": [' + "0," * 100_000 + "0]}")),
    "JSON in another coding": attack(400, **json_body('{"image": "é"}'.encode("latin-1"))),
    "a number of a million digits": attack(400, **json_body('{"image": ' + "1" * 1_000_000 + "}")),
    # questions
    "an unknown parameter": attack(422, content=FILM, query={"clas": "dark"}),
    "a parameter given twice": attack(422, content=FILM, query="model=a&model=b"),
    "a model that is a path": attack(404, content=FILM, query={"model": "../../etc"}),
    "a model of a megabyte's name": attack(404, 414, 400, content=FILM, query={"model": "x" * 30_000}),
    "a version that is none": attack(422, content=FILM, query={"version": "latest"}),
    "a version below one": attack(422, content=FILM, query={"version": "-1"}),
    "a version beyond all numbers": attack(404, 422, content=FILM, query={"version": "9" * 5000}),
    "a query that is no UTF-8": attack(404, 422, content=FILM, query="model=%ff%fe"),
    "a null byte": attack(404, 422, content=FILM, query="model=%00"),
    "an Accept that is none": attack(406, content=FILM, headers={"accept": ";;;,/"}),
}
