"""The results table of many processes: Parquet files with a few rows each, which become one when all are there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    schema = _schema(columns)
    table = pa.Table.from_pylist([{name: row.get(name, "") for name in schema.names} for row in rows], schema=schema)
    _write(out, f"{_PARTS}/{digest}.parquet", table)


def finished(out: Location, columns: Sequence[str], files: Iterable[File], model: str, question: str) -> set[str]:
    """Return the names of the `files` that need not be done again.

    Their file is the same by size and time of modification, the model and the question are the same, and they have no
    error.
    """
    table = _rows(out, columns)
    same = pc.and_(pc.equal(table["model"], model), pc.equal(table["question"], question))
    table = table.filter(pc.and_(same, pc.equal(table["error"], "")))
    known = set(zip(*(table[name].to_pylist() for name in ("file", *_SEEN)), strict=True))
    return {file.name for file in files if (file.name, str(file.size), file.modified) in known}


def combine(out: Location, columns: Sequence[str], files: Iterable[File]) -> tuple[int, int]:
    """Write the rows of `files` as one table, sorted by file, and delete the parts.

    An interruption leaves parts whose rows the table has as well; of rows of the same file, the last one counts.

    Returns:
        The number of rows, and how many of them have an error.
    """
    table = _rows(out, columns)
    table = table.filter(pc.is_in(table["file"], pa.array([file.name for file in files], pa.string())))
    places = table.select(["file"]).append_column("place", pa.array(np.arange(len(table))))
    last = places.group_by("file").aggregate([("place", "max")]).sort_by("file")
    table = table.take(last["place_max"])
    _write(out, RESULTS, table)
    for part in _parts(out):
        out.delete(part)
    return len(table), int(pc.sum(pc.not_equal(table["error"], "")).as_py() or 0)


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in (*columns, *_SEEN)])


def _write(out: Location, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    out.write(name, buffer.getvalue())


def _parts(out: Location) -> list[str]:
    names = (file.name for file in out.files())
    return [name for name in names if name.startswith(f"{_PARTS}/") and name.endswith(".parquet")]


def _rows(out: Location, columns: Sequence[str]) -> pa.Table:
    """Return the rows of the table, then those of the parts, which are newer. Other columns count as no table."""
    schema = _schema(columns)
    names = [file.name for file in out.files() if file.name == RESULTS]
    tables = [pq.read_table(io.BytesIO(out.read(name))) for name in (*names, *_parts(out))]
    return pa.concat_tables(
        [schema.empty_table(), *(each.cast(schema) for each in tables if each.schema.names == schema.names)]
    )
