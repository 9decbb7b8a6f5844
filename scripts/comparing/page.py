"""The page of a comparison: its figures, and the films whose answer or heatmap changed most, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from app.imaging.overlay import Style, draw_overlay
from scripts.comparing.answers import ComparedAnswers
from scripts.comparing.explanations import MovedMap
from scripts.comparing.figures import answer_text
from scripts.comparing.requirements import Verdict
from scripts.datasets.images import read_image
from scripts.evaluation.rendering import FILTERS, inline_jpeg

_SIDE = 320  # of a picture, in pixels
_CLASSES = 5  # whose probabilities are shown with a film
_ROWS = 20  # of the table of answers
_PLAIN, _HEATED = Style(alpha=0.0), Style(alpha=0.4)


def _signed(figure: dict[str, Any]) -> str:
    """Write a difference with its interval."""
    value, low, high = (_with_sign(figure[end]) for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _with_sign(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "−")
    return text[1:] if float(text[1:]) == 0 else text


_templates = Environment(
    loader=PackageLoader("scripts.comparing"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters.update(FILTERS, signed=_signed)


def write_page(
    path: Path,
    answers: ComparedAnswers,
    maps: Sequence[MovedMap],
    figures: dict[str, Any],
    verdicts: Sequence[Verdict],
    *,
    films: int,
) -> None:
    """Write one HTML page that needs no other file to `path`, with at most `films` films in each of its groups."""
    groups = film_groups(answers, maps)
    shown = [(title, film) for title, chosen in groups.items() for film in chosen[:films]]
    entries: dict[str, list[dict[str, Any]]] = {title: [] for title in groups}
    for title, film in tqdm(shown, desc="drawing", unit="film"):
        entries[title].append(_entry(answers, maps, film))
    page = _templates.get_template("comparison.html").render(
        figures=figures,
        verdicts=verdicts,
        groups=[(title, len(groups[title]), found) for title, found in entries.items()],
        rows=_ROWS,
        intended_use=answers.second.manifest.intended_use,
    )
    path.write_text(page, encoding="utf-8")


def film_groups(answers: ComparedAnswers, maps: Sequence[MovedMap]) -> dict[str, list[int]]:
    """Return the films that changed, by the title of their group, those that changed most first; each film once."""
    shift = np.abs(answers.first.probabilities - answers.second.probabilities).max(axis=-1)
    changed = np.flatnonzero(answers.changed)
    same = np.flatnonzero(~answers.changed).tolist()
    correlations = {
        film: moved.agreement.rank_correlation
        for film in same
        if (moved := maps[film]).agreement is not None and moved.agreement.rank_correlation is not None
    }
    moved_films = [film for film, correlation in correlations.items() if round(correlation, 3) < 1]
    return {
        "Answers that change": changed[np.argsort(-shift[changed], kind="stable")].tolist(),
        "Heatmaps that appear or vanish": [film for film in same if maps[film].empty[0] != maps[film].empty[1]],
        "Heatmaps that move most": sorted(moved_films, key=correlations.__getitem__),
    }


def _entry(answers: ComparedAnswers, maps: Sequence[MovedMap], film: int) -> dict[str, Any]:
    """Collect what the page shows of a film: its answers, the agreement of its heatmaps, and its pictures."""
    classes, first, second = answers.classes, answers.first, answers.second
    explained, own = classes[first.top[film]], classes[second.top[film]]
    image = read_image(answers.films[film].path).image
    drawn = [
        ("the film", first.heatmaps[film], _PLAIN),
        (f"first version, evidence for {explained}", first.heatmaps[film], _HEATED),
        (f"second version, evidence for {explained}", second.heatmaps[film], _HEATED),
    ]
    if own != explained:
        drawn.append((f"second version, evidence for {own}", second.own[film], _HEATED))
    likely = np.argsort(-np.maximum(first.probabilities[film], second.probabilities[film]), kind="stable")[:_CLASSES]
    return {
        "name": answers.films[film].path.name,
        "label": answers.films[film].label,
        "answers": [answer_text(version.found(classes)[film], classes) for version in (first, second)],
        "probabilities": [
            (classes[i], float(first.probabilities[film, i]), float(second.probabilities[film, i])) for i in likely
        ],
        "empty": maps[film].empty,
        "agreement": maps[film].agreement,
        "pictures": [
            (caption, inline_jpeg(draw_overlay(image, placed.values, placed.region, style, max_side=_SIDE)))
            for caption, placed, style in drawn
        ],
    }
