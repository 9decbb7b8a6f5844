"""The command that compares two versions, on models that were really exported."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from app.artifact.manifest import read_manifest
from app.artifact.store import seal
from scripts.compare import main
from scripts.exporting.keras_files import export
from tests import models
from tests.exports import CLASSES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """24 textured films of 12 patients, with a bright patch somewhere; the labels have nothing to do with it."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(5)
    rows = ["file,label,patient"]
    for number in range(24):
        pixels = rng.integers(0, 120, (30, 26 + number % 9))
        row, column = rng.integers(0, 18, 2)
        pixels[row : row + 8, column : column + 8] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{CLASSES[number % 3]},p{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def permuted():
    """`gap_linear` with its outputs in another order: (2, 0, 1)."""
    model = models.gap_linear()
    *trunk, kernel, bias = model.get_weights()
    model.set_weights([*trunk, kernel[:, [2, 0, 1]], bias[[2, 0, 1]]])
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Models to compare.

    Versions of `tiny`: 1, a copy of it, other weights, another network that crops, and 1 with its classes in another
    order. Another model has another class. Two versions of `several` are multi-label.
    """
    store = tmp_path_factory.mktemp("store")
    first = export(models.gap_linear(), CLASSES, "tiny", store)
    shutil.copytree(first, store / "tiny" / "2")
    seal(store / "tiny" / "2", read_manifest(first).model_copy(update={"version": 2}))
    export(models.randomised(models.gap_linear(), 11), CLASSES, "tiny", store)
    export(models.two_layer_head(), CLASSES, "tiny", store, fit="crop")
    export(permuted(), tuple(CLASSES[i] for i in (2, 0, 1)), "tiny", store)
    export(models.gap_linear(), ("NORMAL", "PNEUMONIA", "EFFUSION"), "other", store)
    export(models.gap_linear(activation="sigmoid"), CLASSES, "several", store, thresholds=(0.5, 0.5, 0.5))
    export(
        models.randomised(models.gap_linear(activation="sigmoid"), 11), CLASSES, "several", store, thresholds=(0.6,) * 3
    )
    return store


@pytest.fixture
def compare(store, labelled, tmp_path):
    """Runs the command on `labelled`; returns its exit status and its figures."""

    def run(first, second, *options):
        out = tmp_path / "out"
        status = main([first, second, "--data", str(labelled), "--store", str(store), "--out", str(out), *options])
        written = out / "comparison.json"
        return status, json.loads(written.read_text()) if written.is_file() else None

    return run


@pytest.fixture
def strictest(tmp_path):
    """A threshold file that only the same answers and the same heatmaps meet."""
    path = tmp_path / "strictest.toml"
    path.write_text(
        'judged_by = "value"\nmax_changed_answers = 0\nmax_accuracy_loss = 0\nmax_area_loss = 0\n'
        "max_calibration_loss = 1e-6\nmin_rank_correlation = 0.9999\nmin_hottest_overlap = 1\n"
        "min_shared_heat = 0.9999\nmax_vanished_maps = 0\n"
    )
    return path


@pytest.mark.parametrize("second", ["tiny/2", "tiny/5"])
def test_the_same_model_changes_nothing(compare, strictest, second):
    """A copy, or the same network with its classes in another order: it meets the strictest requirements."""
    status, figures = compare("tiny/1", second, "--require", str(strictest))
    assert status == 0
    assert figures["answers"]["changed"]["value"] == 0
    assert all(row["difference"] == {"value": 0, "low": 0, "high": 0} for row in figures["areas"].values())
    assert figures["calibration"]["difference"]["value"] == pytest.approx(0, abs=1e-6)
    moved = figures["explanations"]
    assert moved["films"] > 0
    assert moved["rank_correlation"]["mean"]["low"] == pytest.approx(1, abs=1e-4)
    assert moved["rank_correlation"]["control"]["value"] < 0.99
    assert all(verdict["met"] for verdict in figures["requirements"])


def test_an_unmet_requirement_ends_with_status_1(compare, strictest, capsys):
    """And a sentence for each; the same comparison without requirements ends well."""
    status, figures = compare("tiny/1", "tiny/3", "--require", str(strictest))
    assert status == 1
    assert figures["answers"]["changed"]["value"] > 0
    unmet = [verdict["sentence"] for verdict in figures["requirements"] if not verdict["met"]]
    assert "(max_changed_answers)" in unmet[0]
    assert capsys.readouterr().err.count("not met: ") == len(unmet)
    assert compare("tiny/1", "tiny/3")[0] == 0


def test_the_page_shows_both_heatmaps_and_needs_no_other_file(compare, tmp_path, capsys):
    """Of a version with another grid that crops: of each film the image, the first heatmap and the second."""
    status, figures = compare("tiny/1", "tiny/4", "--show", "3")
    assert status == 0
    assert "of the answers for 24 films change" in capsys.readouterr().out
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert not re.search(r"(src|href)=.?(?!.?data:)|url\(|@import|<script|<link", page)
    sections = page.split('<section class="film">')[1:]
    assert 3 <= len(sections) <= 9
    moved = False
    for section in sections:
        pictures = re.findall(r'<img src="(data:image/jpeg;base64,[^"]+)" alt="([^"]+)"', section)
        captions = [alt.split(": ")[1] for _, alt in pictures]
        explained = captions[1].removeprefix("first version, evidence for ")
        assert captions[:3] == ["the film", captions[1], f"second version, evidence for {explained}"]
        assert explained in CLASSES
        assert pictures[0][0] != pictures[1][0]
        moved |= pictures[1][0] != pictures[2][0]
    assert moved
    assert figures["versions"]["second"]["input"] == "16x16, 3 channels, crop"
    assert "8x8" in figures["versions"]["first"]["layer"]


def test_the_table_has_a_row_for_every_film(compare, tmp_path):
    """From which the figures can be computed anew."""
    _, figures = compare("tiny/1", "tiny/3")
    with (tmp_path / "out" / "films.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    changed = [row for row in rows if row["answer_1"] != row["answer_2"]]
    assert all((row["changed"] == "true") == (row in changed) for row in rows)
    assert len(changed) / 24 == figures["answers"]["changed"]["value"]
    right = np.mean([row["answer_2"] == row["label"] for row in rows])
    assert right == pytest.approx(figures["answers"]["accuracy"]["second"]["value"])
    for row in rows:
        probabilities = {name: float(row[f"p_1:{name}"]) for name in CLASSES}
        assert row["explained_class"] == row["answer_1"] == max(probabilities, key=probabilities.__getitem__)
        assert (row["rank_correlation"] == "") == ("true" in (row["empty_1"], row["empty_2"]))


def test_multi_label_versions_are_compared_class_by_class(compare, tmp_path):
    """Their answers are sets of classes."""
    status, figures = compare("several/1", "several/2")
    assert status == 0
    assert figures["task"] == "multi_label"
    assert list(figures["areas"]) == list(CLASSES)
    assert list(figures["answers"]["classes"]) == list(CLASSES)
    assert "the set of all classes" in (tmp_path / "out" / "comparison.html").read_text()


def test_several_data_folders_and_a_sample_of_their_films(compare, labelled, tmp_path):
    """The sample is the same in every run."""
    more = tmp_path / "more"
    for label in CLASSES[:2]:
        (more / label).mkdir(parents=True)
        shutil.copy(labelled / "0.png", more / label / f"{label}.png")
    _, figures = compare("tiny/1", "tiny/3", "--data", str(more), "--limit", "10")
    assert (figures["data"]["available"], figures["data"]["films"]) == (26, 10)
    _, again = compare("tiny/1", "tiny/3", "--data", str(more), "--limit", "10")
    assert again == figures


def test_versions_are_named_by_store_or_folder(compare, store):
    """A name alone is its highest version; a folder with a manifest is itself."""
    _, figures = compare("several", str(store / "several" / "1"))
    assert [figures["versions"][name]["name"] for name in ("first", "second")] == ["several/2", "several/1"]


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (
            ("tiny/1", "other/1"),
            "only tiny/1 has COVID-19 and only other/1 has EFFUSION; compare versions with the same classes",
        ),
        (("tiny/1", "several/1"), "tiny/1 is single_label and several/1 multi_label"),
        (("tiny/1", "tiny/9"), "no version 9 of 'tiny'"),
        (("tiny/1", "tiny/newest"), "expected NAME/VERSION, NAME, or a folder"),
    ],
)
def test_versions_that_can_not_be_compared_are_refused(compare, capsys, versions, said):
    """With status 2, in a sentence, before anything is written."""
    assert compare(*versions) == (2, None)
    assert said in capsys.readouterr().err


def test_data_without_labels_or_with_damaged_films_is_refused(store, labelled, tmp_path, capsys):
    """A folder of nothing but images; a folder of which one film is cut off."""
    plain, damaged = tmp_path / "plain", tmp_path / "damaged"
    for folder in (plain, damaged / "NORMAL"):
        folder.mkdir(parents=True)
        shutil.copy(labelled / "0.png", folder)
    (damaged / "NORMAL" / "1.png").write_bytes((labelled / "1.png").read_bytes()[:200])
    for folder, said in ((plain, "one sub-folder per class"), (damaged, "1 films can't be read")):
        assert main(["tiny/1", "tiny/2", "--data", str(folder), "--store", str(store), "--out", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "comparison.json").exists()


@pytest.mark.parametrize("options", [["--limit", "0"], ["--limit", "few"], ["--show", "-1"]])
def test_misuse_is_refused_with_status_2(options):
    """As argparse does."""
    with pytest.raises(SystemExit) as stopped:
        main(["a", "b", "--data", "c", *options])
    assert stopped.value.code == 2


def test_an_unknown_requirement_is_refused_before_any_work(compare, tmp_path, capsys):
    """A typing error must not let a release pass."""
    path = tmp_path / "thresholds.json"
    path.write_text('{"max_changed_answer": 0.1}')
    assert compare("tiny/1", "tiny/2", "--require", str(path)) == (2, None)
    assert "max_changed_answer: " in capsys.readouterr().err
