"""Keras files that people reported: packed and equal to what the model itself gives, or refused in a sentence."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from scripts.export import main


def names():
    """The files, one test each, where the folder is there when tests are collected."""
    folder = os.environ.get("LIGHTBOX_FIELD")
    listed = Path(folder or ".") / "models" / "expect.json"
    return sorted(json.loads(listed.read_text())) if folder and listed.is_file() else ["any"]


@pytest.mark.parametrize("name", names())
def test_a_reported_file_is_packed_and_equal_or_refused(name, field, tmp_path, capsys):
    """As `expect.json` says; never wrong, never with a trace."""
    folder = field / "models"
    expected = json.loads((folder / "expect.json").read_text())[name]
    with np.load(folder / f"{Path(name).stem}.npz") as cases:
        images, probabilities = cases["u"], cases["p"]
    classes = ",".join(f"c{number}" for number in range(max(2, probabilities.shape[1])))
    status = main(
        [str(folder / name), "--classes", classes, "--name", "m", "--store", str(tmp_path), *expected["arguments"]]
    )
    if status:
        sentence = capsys.readouterr().err.strip().splitlines()[-1]
        assert expected["expect"] in ("refused", "either"), sentence
        assert len(sentence) <= 300
        assert not list(tmp_path.glob("m/*"))
        return
    assert expected["expect"] in ("equal", "either")
    served = tf.saved_model.load(str(tmp_path / "m" / "1")).signatures["serving_default"]
    actual = served(images=tf.constant(images))["probabilities"].numpy()
    np.testing.assert_allclose(actual, probabilities, atol=1e-5)
