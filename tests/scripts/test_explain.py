"""The command line that explains a folder of images."""

import csv

import numpy as np
import pytest

from scripts.explain import main
from tests import models
from tests.dicoms import dicom
from tests.pictures import constant, decoded, encoded, noise


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


def test_the_command_line(folder, entry_of, tmp_path, capsys):
    """Over a model that was really exported."""
    entry = entry_of(models.batch_norm_dropout)
    store = ["--store", str(entry.parent.parent), "--model", entry.parent.name]
    assert main([str(folder), "--out", str(tmp_path / "out"), *store, "--at-once", "2"]) == 0
    assert "explained 3 images; 2 files can't be read" in capsys.readouterr().out
    overlay = (tmp_path / "out" / "overlays" / "bright.png.jpeg").read_bytes()
    assert decoded(overlay).shape == (40, 60, 3)
    assert main([str(folder), "--out", str(tmp_path / "out"), *store, "--class", "pleura"]) == 1
    assert "pleura" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(folder / "nothing"), "--out", str(tmp_path / "out")])


def test_the_table_says_how_much_heat_is_in_the_organ(entry_of, tmp_path, capsys):
    """In columns that only a model that locates one has; the overlays show its outline where it is wanted."""
    films = np.zeros((2, 64, 96, 3), np.uint8)
    films[0, 16:48, 24:72, 0] = 255
    films[:, 32:40, 60:72, 1] = 255
    (tmp_path / "films").mkdir()
    for name, film in zip(("organ", "without"), films, strict=True):
        (tmp_path / "films" / f"{name}.png").write_bytes(encoded(film))

    def explained(build, *options):
        entry = entry_of(build)
        store = ["--store", str(entry.parent.parent), "--model", entry.parent.name, "--format", "png"]
        out = tmp_path / "out" / build.__name__
        status = main([str(tmp_path / "films"), "--out", str(out), *store, *options])
        return status, out

    status, out = explained(models.red_organ, "--class", "bright")
    assert status == 0
    with (out / "results.csv").open(newline="", encoding="utf-8") as table:
        organ, without = csv.DictReader(table)
    assert (organ["region_found"], without["region_found"]) == ("true", "false")
    assert float(organ["region_share_of_heat"]) == pytest.approx(1.0, abs=0.01)
    assert float(organ["region_share_of_image"]) == pytest.approx(0.25)
    assert (without["region_share_of_heat"], float(without["region_share_of_image"])) == ("", 0.0)
    assert "did not find the organ" in without["warnings"]
    plain = decoded((out / "overlays" / "organ.png.png").read_bytes())
    assert explained(models.red_organ, "--class", "bright", "--outline")[0] == 0
    outlined = decoded((out / "overlays" / "organ.png.png").read_bytes())
    assert (outlined[16, 24:72] == 255).all()
    assert not (plain[16, 24:72] == 255).all()
    capsys.readouterr()
    assert explained(models.batch_norm_dropout, "--outline")[0] == 1
    assert "locates none" in capsys.readouterr().err
    status, out = explained(models.batch_norm_dropout)
    assert "region" not in (out / "results.csv").read_text(encoding="utf-8").splitlines()[0]
