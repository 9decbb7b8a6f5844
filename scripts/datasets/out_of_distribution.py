"""Out-of-distribution samples: images other than chest films, on which the novelty score should be high.

The code draws them, or takes them from installed packages.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.imaging.picture import Picture
from scripts.datasets.samples import film_of


def natural_pictures() -> list[Picture]:
    """Return photographs of scikit-image and scikit-learn, each in colour and in grey."""
    from skimage import data  # noqa: PLC0415  # slow to import, and only evaluation needs it
    from sklearn.datasets import load_sample_images  # noqa: PLC0415  # likewise

    names = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "brick", "grass", "gravel", "moon", "page")
    arrays = [getattr(data, name)() for name in names] + list(load_sample_images().images)
    images = [Image.fromarray(array).convert("RGB") for array in arrays]
    return [Picture(image, "PNG") for colour in images for image in (colour, colour.convert("L"))]


def text_pages(count: int = 12) -> list[Picture]:
    """Draw pages of random words, alternately black on white and white on black."""
    font = ImageFont.load_default(size=18)
    pages = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        page = Image.new("L", (600, 700), 0 if seed % 2 else 255)
        draw = ImageDraw.Draw(page)
        for row in range(20, 680, 24):
            words = " ".join("".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 9))) for _ in range(9))
            draw.text((20, row), words, fill=255 if seed % 2 else 0, font=font)
        pages.append(Picture(page, "PNG"))
    return pages


def noises(count: int = 12) -> list[Picture]:
    """Draw white noise, smooth noise, uniform greys and gradients, in turn."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        kind = seed % 4
        if kind == 0:
            values = rng.uniform(0, 255, (256, 256))
        elif kind == 1:
            coarse = Image.fromarray(rng.uniform(0, 255, (8, 8)).astype(np.float32))
            values = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC))
        elif kind == 2:
            values = np.full((256, 256), rng.uniform(0, 255))
        else:
            values = np.linspace(0, 255, 256)[None, :] * np.ones((256, 1))
        made.append(Picture(Image.fromarray(values.clip(0, 255).astype(np.uint8)), "PNG"))
    return made


def other_films() -> list[Picture]:
    """Return the radiograph of a leg in pydicom-data."""
    names = [Path(str(file)).name for file in files("pydicom-data") or []]
    return [Picture(Image.fromarray(film_of(name)), "PNG") for name in sorted(names) if name == "RG3_UNCR.dcm"]


@cache
def out_of_distribution_samples() -> dict[str, list[Picture]]:
    """Return all samples by kind; the kinds are keys of the report."""
    return {
        "natural pictures": natural_pictures(),
        "text pages": text_pages(),
        "noise and flat greys": noises(),
        "leg film": other_films(),
    }
