"""The documentation names only what exists, and its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from app import __version__
from app.api.schemas import ExplainQuery
from app.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
METRIC = re.compile(r"lightbox_[a-z_]+")


def text_of(path):
    return path.read_text(encoding="utf-8")


def families():
    """Every metric by its name, and by the names of its parts."""
    text = Metrics().exposition().decode()
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE lightbox_")}
    return {name for name in named if not name.endswith("_created")}


def base(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def anchors(path):
    """The fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_metrics_that_the_documentation_and_the_dashboard_use_exist():
    """By their full names; and every one is documented."""
    documented = {base(name) for name in METRIC.findall(text_of(DOCS / "operations.md"))}
    assert documented == families()
    dashboard = json.loads(text_of(DOCS / "grafana.json"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {base(name) for query in queries for name in METRIC.findall(query)} <= families()
    assert len(queries) > 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
    """To a file, and where they have a fragment, to a heading of it."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(document)):
        path, _, fragment = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        assert not fragment or fragment in anchors(file), target


def test_the_loggers_that_operators_may_filter_on_are_documented():
    """All that write: those of modules, the access log's, and the server's."""
    modules = [path for path in (ROOT / "app").rglob("*.py") if "log = logging.getLogger(__name__)" in text_of(path)]
    written = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules}
    written |= {"lightbox.access", "uvicorn.error"}
    section = text_of(DOCS / "operations.md").split("## Logs")[1].split("## Metrics")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)) == written


def test_the_documented_parameters_are_those_of_explain():
    """Each in a row of its own, with its default where it has one."""
    tables = text_of(DOCS / "api.md").split("## The answer")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", tables, re.MULTILINE))
    fields = {field.alias or name: field.default for name, field in ExplainQuery.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        if default is not None:
            assert rows[name] == f"`{str(default).lower()}`", name


def test_the_citation_is_of_this_version():
    """Or a paper would name another."""
    assert f"\nversion: {__version__}\n" in text_of(ROOT / "CITATION.cff")
