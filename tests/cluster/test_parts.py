"""The table that many processes write."""

import pytest

from tests.cluster.clusters import NEEDS_RAY

pytestmark = [NEEDS_RAY, pytest.mark.cluster]

COLUMNS = ["file", "sha256", "model", "question", "error", "label"]


def row(file, label="a", error="", model="m/1"):
    return {"file": file, "size": "3", "modified": "7", "model": model, "question": "q", "error": error, "label": label}


@pytest.fixture
def out(tmp_path):
    from scripts.batch.locations import Location  # noqa: PLC0415  # part of the extra

    return Location.of(str(tmp_path))


def test_parts_become_one_table(out):
    """Sorted, with the last row of each file, without files that are gone, and again after another run."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # part of the extra

    from scripts.batch import parts  # noqa: PLC0415  # likewise
    from scripts.batch.locations import File  # noqa: PLC0415  # likewise

    files = [File(name, 3, "7") for name in ("a", "b", "c")]
    assert parts.combine(out, COLUMNS, []) == (0, 0)
    parts.write_part(out, COLUMNS, [row("c"), row("a", error="broken")])
    parts.write_part(out, COLUMNS, [row("b"), row("gone")])
    assert parts.finished(out, COLUMNS, files, "m/1", "q") == {"b", "c"}
    assert parts.combine(out, COLUMNS, files) == (3, 1)
    parts.write_part(out, COLUMNS, [row("a", label="new")])
    assert parts.combine(out, COLUMNS, files) == (3, 0)
    table = pq.read_table(f"{out.path}/results.parquet").to_pylist()
    assert [(each["file"], each["label"]) for each in table] == [("a", "new"), ("b", "a"), ("c", "a")]
    assert [file.name for file in out.files()] == ["results.parquet"]


@pytest.mark.parametrize(
    ("size", "modified", "model", "question"),
    [(4, "7", "m/1", "q"), (3, "8", "m/1", "q"), (3, "7", "m/2", "q"), (3, "7", "m/1", "r")],
)
def test_what_has_changed_is_not_finished(out, size, modified, model, question):
    """Neither another file nor another question."""
    from scripts.batch import parts  # noqa: PLC0415  # part of the extra
    from scripts.batch.locations import File  # noqa: PLC0415  # likewise

    parts.write_part(out, COLUMNS, [row("a")])
    assert parts.finished(out, COLUMNS, [File("a", 3, "7")], "m/1", "q") == {"a"}
    assert parts.finished(out, COLUMNS, [File("a", size, modified)], model, question) == set()
    assert parts.finished(out, [*COLUMNS, "p:new"], [File("a", 3, "7")], "m/1", "q") == set()
