"""Reports as HTML: the figures of a model, and the films that it got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from app.artifact import Manifest
from app.cams import gradcam, normalise
from app.decoding import decode, to_input
from app.geometry import seen_region
from app.overlay import Style, render
from app.runtimes.base import Runtime
from scripts.data import MAX_PIXELS, Film

_templates = Environment(loader=PackageLoader("scripts"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_templates.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f} %"


def write_report(path: Path, manifest: Manifest, figures: dict[str, Any]) -> None:
    """Write the figures of a model as one HTML page without a picture of a patient."""
    page = _templates.get_template("report.html").render(manifest=manifest, figures=figures)
    path.write_text(page, encoding="utf-8")


def write_films(folder: Path, wrong: Sequence[tuple[Runtime, Sequence[Film]]]) -> None:
    """Write the `wrong` films of each model, with the Grad-CAMs of the predicted and of the true class, and a page.

    The most instructive picture of a classifier is a film that it got wrong, with what it looked at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(runtime, film) for runtime, films in wrong for film in films]
    entries = [
        _write_film(folder, runtime, film, number)
        for number, (runtime, film) in enumerate(tqdm(pairs, desc="heatmaps", unit="film"))
    ]
    page = _templates.get_template("films.html").render(manifest=wrong[0][0].manifest, entries=entries)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _write_film(folder: Path, runtime: Runtime, film: Film, number: int) -> dict[str, Any]:
    spec, classes = runtime.manifest.input, runtime.manifest.classes
    picture = decode(film.path.read_bytes(), max_pixels=MAX_PIXELS)
    pixels = to_input(picture, width=spec.width, height=spec.height, channels=spec.channels, fit=spec.fit)
    truth = np.eye(len(classes), dtype=np.float32)[classes.index(film.label)]
    evidence = runtime.evidence(pixels[None], np.stack([np.zeros_like(truth), truth])[None])
    region = seen_region(picture.width, picture.height, spec.width, spec.height, spec.fit)
    pictures = {"film": "film", "predicted": "predicted", "truth": "truth"}
    for row, (kind, alpha) in enumerate((("predicted", 0.4), ("truth", 0.4), ("film", 0.0))):
        gradients = evidence.gradients[0, min(row, 1)]
        heatmap = normalise(gradcam(evidence.features[0], gradients))
        drawn = render(picture.image, heatmap.values, region, Style("jpeg", alpha), max_side=320)
        pictures[kind] = f"{number:04d}-{kind}.jpg"
        (folder / pictures[kind]).write_bytes(drawn.data)
    probabilities = dict(zip(classes, evidence.probabilities[0].tolist(), strict=True))
    predicted = max(probabilities, key=probabilities.__getitem__)
    return {"film": film, "pictures": pictures, "probabilities": probabilities, "predicted": predicted}
