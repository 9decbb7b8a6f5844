"""What the documentation names is there."""

import json
import re
from pathlib import Path

from app.telemetry.metrics import Metrics

DOCS = Path(__file__).parents[1] / "docs"
METRIC = re.compile(r"lightbox_[a-z_]+")


def families():
    """Every metric by its name, and by the names of its parts."""
    text = Metrics().exposition().decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE lightbox_")}
    return {name for name in named if not name.endswith("_created")}


def base(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_the_metrics_that_the_documentation_and_the_dashboard_use_exist():
    """By their full names; and every one is documented."""
    documented = {base(name) for name in METRIC.findall((DOCS / "operations.md").read_text(encoding="utf-8"))}
    assert documented == families()
    dashboard = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {base(name) for query in queries for name in METRIC.findall(query)} <= families()
    assert len(queries) > 12


def test_links_between_documents_lead_somewhere():
    """Relative ones, in the README and in docs/."""
    for page in (DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
