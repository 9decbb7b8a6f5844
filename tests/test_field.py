"""Images that people reported as shown wrong or refused, each with its right pixels (`LIGHTBOX_FIELD`)."""

import json

import numpy as np
from PIL import Image

from app.imaging.decoding import decode
from app.imaging.headers import identify


def test_every_reported_image_has_its_right_pixels(field):
    """To within one level, as converters round differently; a colour image of grey pixels counts as grey."""
    wrong = {}
    for name, right in json.loads((field / "right.json").read_text(encoding="utf-8")).items():
        expected = Image.open(field / right)
        picture = decode(identify((field / name).read_bytes()), max_pixels=64_000_000)
        shown = np.asarray(picture.image.convert(expected.mode)).astype(int)
        if shown.shape != np.asarray(expected).shape:
            wrong[name] = shown.shape
        elif abs(shown - np.asarray(expected)).max() > 1 or picture.warnings:
            wrong[name] = (abs(shown - np.asarray(expected)).max(), picture.warnings)
    assert wrong == {}
