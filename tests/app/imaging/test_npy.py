"""The heatmap as numbers."""

import io

import numpy as np
import pytest

from app.imaging.npy import npy


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_loads_what_was_written(order):
    """Float32 `[h, w]`, whatever the array's layout was; without pickles."""
    heatmap = np.asarray(np.random.default_rng(0).random((7, 5)), np.float32, order=order)
    loaded = np.load(io.BytesIO(npy(heatmap)), allow_pickle=False)
    assert loaded.dtype == np.dtype("<f4")
    assert loaded.flags.c_contiguous
    assert (loaded == heatmap).all()
