"""A folder of films through the analyzer."""

import csv
import os
import re
from urllib.parse import unquote

import pytest

from app.artifact.manifest import NoveltySpec
from app.errors import UnknownNameError
from app.explain.question import Question
from app.imaging.overlay import Style
from scripts.batch.folder import FolderJob, explain_folder
from tests.dicoms import dicom
from tests.doubles import BrightnessRuntime, manifest
from tests.pictures import constant, decoded, encoded, noise


class CountingRuntime(BrightnessRuntime):
    """Counts the images that it is asked about."""

    def __init__(self, manifest=None):
        super().__init__(manifest)
        self.seen = 0

    def evidence(self, images, targets):
        self.seen += len(images)
        return super().evidence(images, targets)


@pytest.fixture
def folder(tmp_path):
    """Three films in two folders, one of them DICOM, and two files that are none."""
    root = tmp_path / "films"
    (root / "more & deeper").mkdir(parents=True)
    (root / "bright.png").write_bytes(encoded(constant(255)))
    (root / "more & deeper" / "dark #1.tif").write_bytes(encoded(constant(0), "TIFF"))
    (root / "more & deeper" / "film").write_bytes(dicom(noise(40, 60)))
    (root / "notes.txt").write_text("no film", encoding="utf-8")
    (root / "cut.png").write_bytes(encoded(noise())[:200])
    (root / ".hidden").write_bytes(encoded(noise()))
    return root


def table(out):
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def run(folder, out, runtime=None, **options):
    runtime = runtime or CountingRuntime()
    rows = explain_folder(FolderJob(folder, out, **({"question": Question(), "style": Style()} | options)), runtime)
    return rows, runtime


def test_every_file_is_a_row(folder, tmp_path):
    """With its label, its probabilities and its overlay, or with a reason."""
    rows, _ = run(folder, tmp_path / "out")
    found = table(tmp_path / "out")
    assert list(found.values()) == rows
    names = ["bright.png", "cut.png", "more & deeper/dark #1.tif", "more & deeper/film", "notes.txt"]
    assert list(found) == names
    bright = found["bright.png"]
    assert (bright["label"], bright["probability"], bright["p:dark"], bright["error"]) == (
        "bright",
        "0.800000",
        "0.100000",
        "",
    )
    assert (bright["width"], bright["height"], bright["format"], bright["model"]) == ("60", "40", "PNG", "double/3")
    assert found["more & deeper/film"]["format"] == "DICOM"
    assert "truncated" in found["cut.png"]["error"]
    assert "not an image" in found["notes.txt"]["error"]
    for row in rows:
        assert bool(row["overlay"]) != bool(row["error"])
        if row["overlay"]:
            assert decoded((tmp_path / "out" / row["overlay"]).read_bytes()).shape == (40, 60, 3)


def test_the_contact_sheet_links_to_what_is_there(folder, tmp_path):
    """Relative, odd names too, and nothing is loaded from afar."""
    run(folder, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 3
    for source in sources:
        assert (tmp_path / "out" / unquote(source)).is_file()
    assert "http://" not in page
    assert "https://" not in page
    assert "Research use only" in page
    assert "notes.txt" in page


def test_a_second_run_answers_only_what_is_new_or_has_changed(folder, tmp_path):
    """The same bytes, the same model, the same question: nothing to do."""
    out = tmp_path / "out"
    first, runtime = run(folder, out)
    assert runtime.seen == 3
    again, runtime = run(folder, out)
    assert (again, runtime.seen) == (first, 0)
    (folder / "bright.png").write_bytes(encoded(constant(254)))
    (folder / "new.png").write_bytes(encoded(constant(1)))
    (folder / "notes.txt").unlink()
    rows, runtime = run(folder, out)
    assert runtime.seen == 2
    assert [row["file"] for row in rows if row["error"]] == ["cut.png"]


@pytest.mark.parametrize("change", ["question", "model", "overlay"])
def test_another_question_is_answered_anew(folder, tmp_path, change):
    """As is another model, and what has lost its overlay."""
    out = tmp_path / "out"
    run(folder, out)
    runtime = CountingRuntime(manifest().model_copy(update={"version": 4}) if change == "model" else None)
    if change == "overlay":
        (out / "overlays" / "bright.png.png").unlink()
    style = Style(alpha=0.2 if change == "question" else 0.5)
    run(folder, out, runtime, style=style)
    assert runtime.seen == (1 if change == "overlay" else 3)


@pytest.mark.parametrize("kept", [0.999, 0.8, 0.5, 0.02])
def test_a_run_that_was_cut_short_goes_on(folder, tmp_path, kept):
    """Even in the middle of a line."""
    out = tmp_path / "out"
    first, _ = run(folder, out)
    data = (out / "results.csv").read_bytes()
    (out / "results.csv").write_bytes(data[: int(len(data) * kept)])
    rows, runtime = run(folder, out)
    assert rows == first
    assert 0 <= runtime.seen <= 3
    assert (runtime.seen == 3) == (kept < 0.3)


def test_the_output_may_lie_inside_the_folder(folder):
    """Its overlays are no films."""
    run(folder, folder / "out")
    rows, _ = run(folder, folder / "out")
    assert len(rows) == 5


def test_names_that_are_no_unicode_are_written_as_they_can_be(folder, tmp_path):
    """Old archives hold them."""
    (folder / os.fsdecode(b"r\xf6ntgen.png")).write_bytes(encoded(noise()))
    rows, _ = run(folder, tmp_path / "out")
    assert [row["file"] for row in rows if row["file"].startswith("r")] == ["r\ufffdntgen.png"]


def test_what_is_novel_is_flagged(folder, tmp_path):
    """In the table and on the sheet."""
    novelty = NoveltySpec(method="double", threshold=0.9)
    rows, _ = run(folder, tmp_path / "out", BrightnessRuntime(manifest(novelty=novelty)))
    flagged = [row["file"] for row in rows if row["out_of_distribution"] == "true"]
    assert flagged == ["bright.png"]
    assert "unlike the training images" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("question", [Question("pleura"), Question(against="pleura"), Question(method="guess")])
def test_a_question_without_an_answer_is_refused_at_once(folder, tmp_path, question):
    """Not once for each film."""
    with pytest.raises(UnknownNameError):
        run(folder, tmp_path / "out", question=question)
