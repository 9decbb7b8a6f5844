"""The command line that validates recipes."""

import json

import pytest

from scripts.validate import main

pytestmark = pytest.mark.usefixtures("tiny_backbones")


def test_the_command_prints_and_writes(single_films, tmp_path, capsys):
    """A line per part and area; all figures as JSON."""
    options = ["--backbone", "tiny-frozen", "--weights", "none", "--variants", "0", "--head", "kernel"]
    where = ["--data", str(single_films), "--work", str(tmp_path), "--out", str(tmp_path / "figures.json")]
    assert main([*where, *options, "--leave-out", "source"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("all: accuracy 1.000 (0.862 to 1.000), 24 films\n")
    assert "  here: dark against bright, area 1.000" in out
    assert json.loads((tmp_path / "figures.json").read_text())["protocol"]["split"] == "source"


@pytest.mark.parametrize(
    ("option", "said"), [(["--leave-out", "planet"], "no column 'planet'"), (["--only", "source=mars"], "'mars'")]
)
def test_a_protocol_that_can_not_be_is_refused(data, tmp_path, capsys, option, said):
    """Status 1, and what there is."""
    command = ["--data", str(data), "--work", str(tmp_path), "--backbone", "tiny-frozen", "--weights", "none"]
    assert main([*command, *option]) == 1
    assert said in capsys.readouterr().err


def test_half_a_selection_is_refused(data, capsys):
    """As any other misuse of the command line."""
    with pytest.raises(SystemExit):
        main(["--data", str(data), "--only", "source"])
    assert "COLUMN=VALUE" in capsys.readouterr().err
