"""The command line that explains a folder of images."""

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
