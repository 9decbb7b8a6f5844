"""A folder explained with Ray Data: the same rows as without it, on a disk and in S3, however often it is killed."""

import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests import models
from tests.cluster.clusters import NEEDS_RAY
from tests.dicoms import dicom
from tests.pictures import encoded, noise
from tests.servers import free_port, until

pq = pytest.importorskip("pyarrow.parquet", reason="needs Ray: make cluster")

pytestmark = [NEEDS_RAY, pytest.mark.cluster]

# Several batches of work, so that a run can be killed between them.
COUNT = 150
LIMIT_S = 600
BUCKET = "films"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Films in several folders, one of them DICOM, and two files that are none."""
    root = tmp_path_factory.mktemp("films")
    (root / "more & deeper").mkdir()
    for number in range(COUNT):
        (root / "more & deeper" / f"{number:03} #1.png").write_bytes(encoded(noise(24 + number % 7, 40)))
    (root / "film").write_bytes(dicom(noise(40, 60)))
    (root / "notes.txt").write_text("no film", encoding="utf-8")
    (root / "cut.png").write_bytes(encoded(noise())[:200])
    (root / ".hidden").write_bytes(encoded(noise()))
    return root


@pytest.fixture(scope="module")
def model(entry_of):
    """The options that name a tiny model."""
    entry = entry_of(models.batch_norm_dropout)
    return ["--store", str(entry.parent.parent), "--model", entry.parent.name]


def command(folder, out, *options):
    return [sys.executable, "-m", "scripts.explain", str(folder), "--out", str(out), *options]


def explain(folder, out, *options, **environment):
    """Run the command to its end, and return what it printed."""
    done = subprocess.run(
        command(folder, out, *options),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def expected(folder, model, tmp_path_factory):
    """The rows without Ray."""
    out = tmp_path_factory.mktemp("single")
    explain(folder, out, *model)
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(rows, expected):
    """Whether rows are the same; images share batches in another way, which moves the last digits."""
    assert [row["file"] for row in rows] == [row["file"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() - {"size", "modified"} == other.keys()
        for name, value in other.items():
            if name == "probability" or name.startswith("p:"):
                assert float(row[name] or -1) == pytest.approx(float(value or -1), abs=1e-5)
            else:
                assert row[name] == value, name


def test_the_rows_are_those_without_ray_on_two_cpus(folder, model, expected, tmp_path):
    """A broken file is a row with its reason, and readers and actors do not starve each other."""
    printed = explain(folder, tmp_path / "out", *model, "--ray")
    assert f"explained {COUNT + 1} images; 2 files can't be read" in printed
    same(pq.read_table(tmp_path / "out" / "results.parquet").to_pylist(), expected)
    overlays = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out" / "overlays").rglob("*.jpeg")
    }
    assert overlays == {row["overlay"] for row in expected if row["overlay"]}
    assert not list((tmp_path / "out" / "parts").glob("*"))


def kill(process):
    """Kill a process and all that it has started, at once."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in family:
        each.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


def test_a_run_that_was_killed_goes_on_where_it_was(folder, model, expected, tmp_path):
    """It ends with the same table, and does no finished part twice."""
    out = tmp_path / "out"
    with subprocess.Popen(command(folder, out, *model, "--ray"), stderr=subprocess.DEVNULL) as process:
        until(lambda: len(list((out / "parts").glob("*.parquet"))) >= 1 or process.poll() is not None, LIMIT_S)
        kill(process)
    finished = {path: path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet")}
    assert finished
    rows = [row for path in finished for row in pq.read_table(path).to_pylist()]
    written = {row["overlay"]: (out / row["overlay"]).stat().st_mtime_ns for row in rows if row["overlay"]}
    explain(folder, out, *model, "--ray")
    assert {name: (out / name).stat().st_mtime_ns for name in written} == written
    same(pq.read_table(out / "results.parquet").to_pylist(), expected)
    started = time.time_ns()
    explain(folder, out, *model, "--ray")
    overlays = [path for path in (out / "overlays").rglob("*.jpeg") if path.stat().st_mtime_ns > started]
    assert overlays == []


@contextmanager
def s3_server():
    """The address of an S3 server on this machine."""
    port = free_port()
    server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"

            def answers():
                try:
                    return httpx.get(url).status_code == 200
                except httpx.TransportError:
                    return False

            until(answers)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def test_a_bucket_is_a_folder(folder, model, expected, tmp_path):
    """For the films and for the results."""
    with s3_server() as url:
        assert httpx.put(f"{url}/{BUCKET}").status_code == 200
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix().replace(" ", "%20").replace("#", "%23").replace("&", "%26")
                assert httpx.put(f"{url}/{BUCKET}/in/{name}", content=path.read_bytes()).status_code == 200
        endpoint = f"endpoint_override={url.removeprefix('http://')}&scheme=http&region=us-east-1"
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        for _ in range(2):  # the second time, all of it is there
            explain(f"s3://{BUCKET}/in?{endpoint}", f"s3://{BUCKET}/out?{endpoint}", *model, "--ray", **keys)
        table = tmp_path / "results.parquet"
        table.write_bytes(httpx.get(f"{url}/{BUCKET}/out/results.parquet").content)
        same(pq.read_table(table).to_pylist(), expected)
        overlay = next(row["overlay"] for row in expected if row["overlay"])
        assert httpx.get(f"{url}/{BUCKET}/out/{overlay}").content.startswith(b"\xff\xd8\xff")
