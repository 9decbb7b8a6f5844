"""TIFF files made by code, of the kinds that Pillow doesn't write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import imagecodecs
import numpy as np

_COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: imagecodecs.zlib_encode,
}
GREY, WHITE_IS_ZERO, RGB = 1, 0, 2


def tiff(
    samples: np.ndarray,
    bits: int,
    *,
    photometric: int = GREY,
    order: str = "<",
    big: bool = False,
    planar: int = 1,
    compression: int = 1,
    predictor: int = 1,
    tags: Sequence[tuple[int, int]] = (),
    pages: int = 1,
) -> bytes:
    """`samples` `[H, W]` or `[H, W, S]` of `bits` bits, two strips a plane; `tags` are more (number, short value)."""
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, count = samples.shape
    planes = [samples] if planar == 1 else [samples[..., [number]] for number in range(count)]
    rows = -(-height // 2)
    packed = [
        _packed(plane[top : top + rows], bits, order, predictor) for plane in planes for top in range(0, height, rows)
    ]
    strips = [b"".join(map(imagecodecs.packbits_encode, strip)) for strip in packed]
    if compression != 32773:  # which alone is compressed by rows
        strips = [_COMPRESSIONS[compression](b"".join(strip)) for strip in packed]
    head = 16 if big else 8
    offsets = np.cumsum([head, *(len(strip) + len(strip) % 2 for strip in strips)])
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * count),
        259: (3, [compression]),
        262: (3, [photometric]),
        273: (4, offsets[:-1].tolist()),
        277: (3, [count]),
        278: (4, [rows]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [planar]),
        317: (3, [predictor]),
        **{number: (3, [value]) for number, value in tags},
    }
    extra = count - (3 if photometric == RGB else 1)
    if extra:
        entries[338] = (3, [2] * extra)
    body = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    directory = _directory(entries, order, int(offsets[-1]), big=big, linked=pages > 1)
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    start = struct.pack(f"{order}HHQ", 8, 0, offsets[-1]) if big else struct.pack(f"{order}I", offsets[-1])
    return magic + start + body + directory


def _packed(samples: np.ndarray, bits: int, order: str, predictor: int) -> list[bytes]:
    """Rows of samples, each padded to a whole byte; whole bytes in `order`, other depths most significant bit first."""
    if bits % 8 == 0:
        kind = f"{order}u{bits // 8}"
        if predictor == 2:
            samples = np.diff(samples, axis=1, prepend=np.zeros_like(samples[:, :1]))
        return [row.tobytes() for row in samples.astype(kind)]
    shifts = np.arange(bits - 1, -1, -1)
    spread = (samples.reshape(len(samples), -1, 1).astype(np.int64) >> shifts) & 1
    return [row.tobytes() for row in np.packbits(spread.reshape(len(samples), -1).astype(np.uint8), axis=1)]


def _directory(entries: dict[int, tuple[int, list[int]]], order: str, start: int, *, big: bool, linked: bool) -> bytes:
    place, size = ("Q", 8) if big else ("I", 4)
    row = 20 if big else 12
    behind = start + (8 if big else 2) + row * len(entries) + size
    rows, values = b"", b""
    for tag, (kind, numbers) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(data) > size:
            rows += struct.pack(f"{order}HH{place}{place}", tag, kind, len(numbers), behind + len(values))
            values += data
        else:
            rows += struct.pack(f"{order}HH{place}", tag, kind, len(numbers)) + data.ljust(size, b"\0")
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    return count + rows + struct.pack(f"{order}{place}", start if linked else 0) + values
