"""Data folders of generated films: bright ones and dark ones, with texture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def _film(label: str, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    level = 190 if label == "bright" else 60
    return Image.fromarray((level + rng.normal(0, 15, (40, 36 + seed % 9))).clip(0, 255).astype(np.uint8))


def write_folder(root: Path, *, each: int) -> Path:
    """A data folder of two sub-folders with `each` films."""
    folder = root / "folder"
    for label in ("bright", "dark"):
        (folder / label).mkdir(parents=True)
        for i in range(each):
            _film(label, i).save(folder / label / f"{i}.png")
    return folder


def write_table(root: Path, *, patients: int, films_each: int, masks: bool = False) -> Path:
    """A data folder with a metadata.csv; the sources are of unequal size in each class.

    With `masks`, the left half of each film is bright tissue, and its mask says that it is lung.
    """
    folder = root / "table"
    folder.mkdir(parents=True)
    rows = []
    for patient in range(patients):
        for number in range(films_each):
            name = f"{patient}-{number}.png"
            label = "bright" if patient % 2 else "dark"
            film = _film(label, patient * 10 + number)
            if masks:
                film.paste(230, (0, 0, film.width // 2, film.height))
                mask = Image.new("L", film.size)
                mask.paste(255, (0, 0, film.width // 2, film.height))
                mask.save(folder / f"mask-{name}")
            film.save(folder / name)
            source = "here" if (patient // 2 + number) % 3 else "there"
            row = {"file": name, "label": label, "patient": f"p{patient}", "source": source}
            rows.append(row | {"lung_mask": f"mask-{name}" if masks else ""})
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder
