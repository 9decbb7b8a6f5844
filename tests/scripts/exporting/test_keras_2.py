"""What files of Keras 2 mean is what Keras 2 itself says, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from scripts.export import main
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


@pytest.mark.parametrize(
    ("name", "classes", "preprocessing"),
    [
        ("emotions", "angry,disgust,fear,happy,sad,surprise,neutral", "127.5/127.5"),
        ("digits", "0,1,2,3,4,5,6,7,8,9", "0/255"),
    ],
)
def test_a_published_model_is_packed_and_gives_what_keras_2_gives(name, classes, preprocessing, written, tmp_path):
    """Two that were trained, one with four separable residual blocks, the other with a dense layer on its grid."""
    with np.load(written / f"{name}.npz") as cases:
        images, outputs = cases["images"], cases["outputs"]
    options = ["--classes", classes, "--preprocessing", preprocessing, "--name", name, "--store", str(tmp_path)]
    assert main([str(written / f"{name}.h5"), *options]) == 0
    served = tf.saved_model.load(str(tmp_path / name / "1")).signatures["serving_default"]
    probabilities = served(images=tf.constant(images))["probabilities"].numpy()
    assert len(set(probabilities.argmax(1))) > 1
    np.testing.assert_allclose(probabilities, outputs, atol=1e-5)
