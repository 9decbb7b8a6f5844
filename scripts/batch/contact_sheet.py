"""The contact sheet: one page with the overlay and the prediction of every image of a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.artifact.manifest import Manifest
from scripts.batch.results_table import class_columns

_templates = Environment(
    loader=PackageLoader("scripts.batch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters.update(percent=lambda value: f"{100 * float(value):.1f} %", path=quote)


def write_contact_sheet(path: Path, manifest: Manifest, rows: Sequence[dict[str, str]]) -> None:
    """Write `rows` of a results table as HTML to `path`. Links are relative, and the page loads no remote resource."""
    explained = [row for row in rows if not row["error"]]
    page = _templates.get_template("contact_sheet.html").render(
        manifest=manifest,
        images=[row | {"probabilities": class_columns(row)} for row in explained],
        unreadable=[row for row in rows if row["error"]],
        counts=Counter(row["label"] for row in explained),
    )
    path.write_text(page, encoding="utf-8")
