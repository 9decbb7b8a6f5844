"""Conversion of pixels to the input of a network, inside the artefact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import tensorflow as tf

from scripts.errors import ExportError

Mode = Literal["none", "rescale", "tf", "caffe", "torch", "bgr"]
PREPROCESSINGS: tuple[Mode, ...] = get_args(Mode)
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Standardised:
    """(pixel - mean) / deviation, per channel, in units of pixels 0..255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


Preprocessing = Mode | Standardised


def preprocess(images: Any, mode: Preprocessing) -> Any:
    """Convert uint8 images `[B, H, W, C]` to the float32 values that the network was trained on.

    `tf`, `caffe` and `torch` are the modes of `keras.applications`: -1..1; BGR minus the ImageNet mean; and 0..1
    standardised by ImageNet's mean and deviation. `rescale` scales to 0..1, and `bgr` reverses the channels.
    """
    values = tf.cast(images, tf.float32)
    if isinstance(mode, Standardised):
        return (values - tf.constant(mode.mean)) / tf.constant(mode.deviation)
    return _MODES[mode](values)


_MODES: dict[Mode, Callable[[Any], Any]] = {
    "none": lambda values: values,
    "rescale": lambda values: values / 255.0,
    "tf": lambda values: values / 127.5 - 1.0,
    "bgr": lambda values: values[..., ::-1],
    "caffe": lambda values: values[..., ::-1] - tf.constant(_CAFFE_MEAN),
    "torch": lambda values: (values / 255.0 - tf.constant(_TORCH_MEAN)) / tf.constant(_TORCH_DEVIATION),
}


def parse(text: str) -> Preprocessing:
    """Parse `--preprocessing`: a mode, or `MEAN/DEVIATION` such as `123.7,116.3,103.5/58.4,57.1,57.4`.

    Raises:
        ValueError: if it is neither.
    """
    for mode in PREPROCESSINGS:
        if text == mode:
            return mode
    means, _, deviations = text.partition("/")
    mean = tuple(float(part) for part in means.split(","))
    deviation = tuple(float(part) for part in deviations.split(","))
    if len(mean) != len(deviation) or 0 in deviation:
        raise ValueError("each channel needs a mean and a deviation other than 0")
    return Standardised(mean, deviation)


def check_channels(mode: Preprocessing, channels: int) -> None:
    """Check that images have as many channels as the network takes, and that the preprocessing fits them.

    Raises:
        ExportError: if not; the message says how many channels are needed.
    """
    if channels not in (1, 3):
        raise ExportError(f"the model takes {channels} channels; images have 1 or 3")
    if isinstance(mode, Standardised):
        if len(mode.mean) not in (1, channels):
            raise ExportError(f"--preprocessing has {len(mode.mean)} means; the model takes {channels} channels")
    elif mode in ("caffe", "torch", "bgr") and channels != 3:
        raise ExportError(f"preprocessing {mode!r} needs 3 channels; the model takes {channels}")
