"""A heatmap as a file that NumPy loads: `application/x-npy`."""

from __future__ import annotations

import io

import numpy as np

from app.arrays import Float32Array


def npy(heatmap: Float32Array) -> bytes:
    """`heatmap` `[h, w]` in NumPy's format 1.0 (NEP 1): little-endian float32, row by row, no pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(heatmap, "<f4"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
