"""What files of Keras 2 mean is what Keras 2 itself says, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from scripts.exporting.model_files import read_model

PYTHON = os.environ.get("LIGHTBOX_KERAS2", "")
WRITER = Path(__file__).parents[2] / "keras2_models.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="needs LIGHTBOX_KERAS2, a Python interpreter that has tf_keras"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of models and their answers, which Keras 2 wrote."""
    folder = tmp_path_factory.mktemp("keras2")
    subprocess.run([PYTHON, str(WRITER), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("vgg16", 1e-5),
        ("mobilenet", 1e-5),
        ("half_frozen", 1e-5),
        ("densenet121", 1e-5),
        ("efficientnetb0", 5e-5),  # its normalisation is rounded otherwise
        ("augmented", 1e-5),
    ],
)
def test_a_file_of_keras_2_gives_what_keras_2_gives(name, tolerance, written):
    """Nested and frozen as in the tutorials, with preprocessing as recorded arithmetic."""
    with np.load(written / f"{name}.npz") as cases:
        images, outputs = cases["images"], cases["outputs"]
    model = read_model(written / f"{name}.h5").model
    np.testing.assert_allclose(np.asarray(model(images.astype(np.float32), training=False)), outputs, atol=tolerance)
