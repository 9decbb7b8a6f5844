"""The results table of many processes: Parquet files with a few rows each, which become one when all are there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.batch.locations import File, Location

RESULTS = "results.parquet"
_PARTS = "parts"
# How a file is recognised without reading it; the rest is as in results.csv.
_SEEN = ("size", "modified")

Row = dict[str, str]


def write_part(out: Location, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows as a part, whose name follows from their files: the same part written twice is one part."""
    digest = hashlib.sha256("\0".join(row["file"] for row in rows).encode()).hexdigest()[:32]
    out.write(f"{_PARTS}/{digest}.parquet", _parquet(columns, rows))


def finished(out: Location, columns: Sequence[str], files: Iterable[File], model: str, question: str) -> list[Row]:
    """Return the rows of `files` that need not be done again.

    Their file is the same by size and time of modification, the model and the question are the same, and they have no
    error.
    """
    known = {(row["file"], row["size"], row["modified"]): row for row in _rows(out, columns)}
    found = (known.get((file.name, str(file.size), file.modified)) for file in files)
    return [row for row in found if row and not row["error"] and (row["model"], row["question"]) == (model, question)]


def combine(out: Location, columns: Sequence[str], files: Iterable[File]) -> list[Row]:
    """Write the rows of `files` as one table, sorted by file, and delete the parts; return its rows.

    An interruption leaves parts whose rows the table has as well, which `finished` sees once.
    """
    names = {file.name for file in files}
    rows = {row["file"]: row for row in _rows(out, columns) if row["file"] in names}
    ordered = [rows[name] for name in sorted(rows)]
    out.write(RESULTS, _parquet(columns, ordered))
    for part in _parts(out):
        out.delete(part)
    return ordered


def _parquet(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    fields = (*columns, *_SEEN)
    schema = pa.schema([(name, pa.string()) for name in fields])
    table = pa.Table.from_pylist([{name: row.get(name, "") for name in fields} for row in rows], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _parts(out: Location) -> list[str]:
    names = (file.name for file in out.files())
    return [name for name in names if name.startswith(f"{_PARTS}/") and name.endswith(".parquet")]


def _rows(out: Location, columns: Sequence[str]) -> Iterable[Row]:
    """Yield the rows of the table, then those of the parts, which are newer. Other columns count as no table."""
    tables = [file.name for file in out.files() if file.name == RESULTS]
    for name in (*tables, *_parts(out)):
        table = pq.read_table(io.BytesIO(out.read(name)))
        if table.column_names == [*columns, *_SEEN]:
            yield from table.to_pylist()
