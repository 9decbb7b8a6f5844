"""The environment variables that TensorFlow reads when it is imported."""

from __future__ import annotations

import os

from app.settings import Settings


def prepare_tensorflow(settings: Settings, cores: int) -> None:
    """Set the variables that are not set already, for a process that may use `cores` cores."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hide informational messages
    # Without this, loading a SavedModel imports all of Keras, which artefacts never use: three seconds and 120 MB.
    # The legacy Keras that the variable selects isn't installed, and TensorFlow ignores that.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    for name, setting, default in (
        ("TF_NUM_INTRAOP_THREADS", settings.intra_op_threads, cores),
        ("TF_NUM_INTEROP_THREADS", settings.inter_op_threads, 1),
    ):
        if setting is not None:
            os.environ[name] = str(setting)
        os.environ.setdefault(name, str(default))
