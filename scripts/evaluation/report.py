"""HTML reports: the figures of a model with their charts, and the gallery of misclassified films."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from tqdm import tqdm

from app.artifact.manifest import Manifest
from app.artifact.runtimes.base import Runtime
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.explain.cams import gradcam, normalise
from app.explain.regions import covered_box
from app.imaging.geometry import seen_region
from app.imaging.overlay import Style, draw_overlay
from scripts.datasets.films import Film
from scripts.datasets.images import network_input, read_image
from scripts.evaluation.rendering import FILTERS, inline_jpeg

_templates = Environment(
    loader=PackageLoader("scripts.evaluation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


_templates.filters.update(FILTERS)


def write_report(
    out: Path, manifest: Manifest, figures: dict[str, Any], misclassified: Sequence[tuple[Path, Sequence[Film]]]
) -> None:
    """Write `metrics.json`, `report.html` and the gallery `films/index.html` into the folder `out`.

    Only the gallery shows patients. It shows the films in `misclassified`, which lists those of each artefact.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    charts = {"roc": _roc(figures), "reliability": _reliability(figures)}
    if "controls" in figures:
        charts["randomised"] = _randomised(figures)
    page = _templates.get_template("report.html").render(manifest=manifest, figures=figures, charts=charts)
    (out / "report.html").write_text(page, encoding="utf-8")
    _write_gallery(out / "films", manifest, misclassified)


def write_multi_label_report(out: Path, manifest: Manifest, figures: dict[str, Any]) -> None:
    """Write `report.html`, the figures of `scripts.evaluation.multi_label`, into the folder `out`."""
    page = _templates.get_template("multi_label.html").render(manifest=manifest, figures=figures)
    (out / "report.html").write_text(page, encoding="utf-8")


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704  # the chart contains no user text


def _axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    return figure, axes


def _roc(figures: dict[str, Any]) -> Markup:
    figure, axes = _axes("ROC, each class against the rest", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    for number, row in enumerate(figures["classes"].values()):
        if "roc" in row:
            axes.plot(*np.array(row["roc"]).T, label=f"class {number + 1}")
    axes.legend(loc="lower right")
    return _svg(figure)


def _reliability(figures: dict[str, Any]) -> Markup:
    figure, axes = _axes("Reliability", "top probability", "accuracy")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    confidence, accuracy, share = np.array(figures["reliability"]).T
    axes.plot(confidence, accuracy, marker="o")
    axes.bar(confidence, share, width=0.03, color="0.8", label="share of films")
    axes.legend(loc="upper left")
    return _svg(figure)


def _randomised(figures: dict[str, Any]) -> Markup:
    figure, axes = _axes("Cascading randomisation", "randomised variables, counted from the logits", "rank correlation")
    axes.plot(*np.array([(0, 1.0), *figures["controls"]["randomised"]]).T, marker="o")
    axes.axhline(0, color="0.7", linestyle=":")
    return _svg(figure)


def _write_gallery(folder: Path, manifest: Manifest, misclassified: Sequence[tuple[Path, Sequence[Film]]]) -> None:
    """Write a self-contained page with each misclassified film and the Grad-CAMs of its predicted and true class."""
    entries = []
    for path, films in misclassified:
        runtime = TensorFlowRuntime(path)
        entries += [_entry(runtime, film) for film in tqdm(films, desc="heatmaps", unit="film")]
    folder.mkdir(parents=True, exist_ok=True)
    page = _templates.get_template("films.html").render(manifest=manifest, entries=entries)
    (folder / "index.html").write_text(page, encoding="utf-8")


def _entry(runtime: Runtime, film: Film) -> dict[str, Any]:
    spec, classes = runtime.manifest.input, runtime.manifest.classes
    picture = read_image(film.path)
    pixels = network_input(picture, spec)
    truth = np.eye(len(classes), dtype=np.float32)[classes.index(film.label)]
    evidence = runtime.evidence(pixels[None], np.stack([np.zeros_like(truth), truth])[None])
    region = seen_region(picture.width, picture.height, spec.width, spec.height, spec.fit)
    box = None if evidence.box is None else evidence.box[0]
    region = region.part(covered_box(runtime.manifest.feature_layer, box))
    pictures = []
    for row, alpha in ((0, 0.0), (0, 0.4), (1, 0.4)):
        heatmap = normalise(gradcam(evidence.features[0], evidence.gradients[0, row]))
        drawn = draw_overlay(picture.image, heatmap.values, region, Style(alpha=alpha), max_side=320)
        pictures.append(inline_jpeg(drawn))
    probabilities = dict(zip(classes, evidence.probabilities[0].tolist(), strict=True))
    predicted = max(probabilities, key=probabilities.__getitem__)
    return {"film": film, "pictures": pictures, "probabilities": probabilities, "predicted": predicted}
