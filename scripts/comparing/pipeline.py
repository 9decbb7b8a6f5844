"""The complete comparison of two versions on labelled films: figures, verdicts, table and page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.artifact.manifest import Manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from scripts.comparing.answers import answer_films
from scripts.comparing.explanations import explanation_figures, moved_maps
from scripts.comparing.figures import answer_figures, area_figures, calibration_figures, novelty_figures, true_classes
from scripts.comparing.films_table import write_films_table
from scripts.comparing.page import write_page
from scripts.comparing.requirements import Requirements, Verdict, judge
from scripts.comparing.versions import check_comparable, version_name
from scripts.datasets.films import Film, digest, patient_key


@dataclass(frozen=True, slots=True)
class Comparison:
    """The content of `comparison.json` without its verdicts, and whether each requirement is met."""

    figures: dict[str, Any]
    verdicts: list[Verdict]


def compare_versions(
    entries: tuple[Path, Path],
    films: Sequence[Film],
    out: Path,
    *,
    limit: int | None = None,
    shown: int = 12,
    requirements: Requirements | None = None,
) -> Comparison:
    """Compare two artefacts on `films`, and write `comparison.json`, `comparison.html` and `films.csv` into `out`.

    Args:
        entries: the version folders.
        films: labelled films.
        out: the folder of the results. The page shows patients.
        limit: the size of a random sample of the films, the same in every run; None for all.
        shown: how many films each group of the page shows.
        requirements: what the figures are judged by.

    Raises:
        ArtifactError: an artefact can't be loaded.
        CompareError: the versions have different classes or tasks.
        DataError: a label is not a class of the versions, or some films can't be decoded.
    """
    first, second = (TensorFlowRuntime(entry) for entry in entries)
    check_comparable(first.manifest, second.manifest)
    classes, task = first.manifest.classes, first.manifest.task
    chosen = films if limit is None else sample(films, limit)
    truth = true_classes(chosen, classes, multi_label=task == "multi_label")
    answers = answer_films(first, second, chosen)
    maps = moved_maps(answers)
    sha256 = digest(films)
    figures = {
        "versions": {
            name: _facts(entry, runtime.manifest, sha256)
            for name, entry, runtime in zip(("first", "second"), entries, (first, second), strict=True)
        },
        "data": {
            "sha256": sha256,
            "available": len(films),
            "films": len(chosen),
            "patients": len({patient_key(film) for film in chosen}),
        },
        "task": task,
        "classes": list(classes),
        "answers": answer_figures(answers, truth),
        "areas": area_figures(answers, truth),
        "calibration": calibration_figures(answers, truth),
        "novelty": novelty_figures(answers),
        "explanations": explanation_figures(answers, maps),
    }
    verdicts = [] if requirements is None else judge(requirements, figures)
    out.mkdir(parents=True, exist_ok=True)
    content = figures | {"requirements": [asdict(verdict) for verdict in verdicts]}
    (out / "comparison.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_films_table(out / "films.csv", answers, truth, maps)
    write_page(out / "comparison.html", answers, maps, figures, verdicts, films=shown)
    return Comparison(figures, verdicts)


def sample(films: Sequence[Film], count: int) -> list[Film]:
    """Return a random sample of at most `count` films in their order, the same in every run."""
    drawn = np.random.default_rng(0).permutation(len(films))[:count]
    return [films[i] for i in sorted(drawn.tolist())]


def _facts(entry: Path, manifest: Manifest, sha256: str) -> dict[str, Any]:
    spec, layer = manifest.input, manifest.feature_layer
    data = (manifest.training or {}).get("data", {})
    return {
        "name": version_name(manifest),
        "folder": str(entry),
        "created": manifest.created.isoformat(),
        "input": f"{spec.width}x{spec.height}, {spec.channels} channels, {spec.fit}",
        "layer": f"{layer.name}, {layer.width}x{layer.height}",
        "trained_on_these_films": "unknown" if not data else "yes" if data.get("sha256") == sha256 else "no",
    }
