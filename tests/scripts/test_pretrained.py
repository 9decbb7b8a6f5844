"""Stock networks in the model store."""

import keras
import numpy as np
import pytest
from skimage import data

from app.artifact.manifest import InputSpec, read_manifest
from app.artifact.runtimes.tensorflow import TensorFlowRuntime
from app.explain.cams import gradcam, normalise
from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify
from app.serving.self_test import run_self_test
from scripts.errors import WeightsError
from scripts.exporting.pretrained import SOURCES, class_names, download
from scripts.pretrained import main
from tests.pictures import encoded

CATS = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}


def test_the_class_names_are_distinct_and_in_order():
    """First, last, and two that share a word."""
    names = class_names()
    assert len(set(names)) == len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert (names[134], names[517]) == ("crane (n02012849)", "crane (n03126707)")


@pytest.mark.parametrize("name", SOURCES)
def test_every_network_that_is_offered_exists(name):
    """In keras.applications, under the name that is lower case here."""
    assert callable(getattr(keras.applications, SOURCES[name].function))


@pytest.mark.slow
def test_a_network_of_keras_is_packed_from_a_file_of_weights(tmp_path, capsys):
    """With its thousand names, cropped input and its origin; no novelty."""
    keras.utils.set_random_seed(0)
    keras.applications.MobileNet(weights=None).save_weights(tmp_path / "mine.weights.h5")
    arguments = ["mobilenet", "--store", str(tmp_path / "store"), "--weights", str(tmp_path / "mine.weights.h5")]
    assert main(arguments) == 0
    entry = tmp_path / "store" / "mobilenet" / "1"
    assert f"wrote {entry}" in capsys.readouterr().out
    manifest = read_manifest(entry)
    assert manifest.classes == class_names()
    assert manifest.input == InputSpec(height=224, width=224, channels=3, fit="crop")
    assert (manifest.novelty, manifest.cautions) == (None, None)
    assert "mine.weights.h5" in manifest.training["weights"]
    assert manifest.feature_layer.height == 7


def test_weights_that_are_not_there_or_not_the_networks_are_refused(tmp_path, capsys):
    """Status 1, and a sentence."""
    assert main(["mobilenet", "--store", str(tmp_path), "--weights", str(tmp_path / "none.h5")]) == 1
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "bad.weights.h5").write_bytes(b"no weights")
    assert main(["mobilenet", "--store", str(tmp_path), "--weights", str(tmp_path / "bad.weights.h5")]) == 1
    assert "does not hold the weights of MobileNet" in capsys.readouterr().err
    assert main(["efficientnet-lite0", "--store", str(tmp_path), "--weights", str(tmp_path / "bad.weights.h5")]) == 1
    assert "takes no --weights" in capsys.readouterr().err


def test_a_download_that_fails_says_what_to_do():
    """The file's address, and what needs none; another fault stays what it is."""

    def unreachable():
        raise Exception("URL fetch failure on https://host/vgg16.h5: None")  # noqa: TRY002  # as Keras raises it

    with pytest.raises(WeightsError, match=r"https://host/vgg16\.h5.*--weights.*efficientnet-lite0"):
        download(unreachable, "VGG16")
    with pytest.raises(ZeroDivisionError):
        download(lambda: 1 / 0, "VGG16")


@pytest.mark.slow
def test_a_cat_is_called_a_cat_and_the_heat_lies_on_it(tmp_path):
    """scikit-image's Chelsea, whose face fills all but the rim of the picture."""
    assert main(["efficientnet-lite0", "--store", str(tmp_path)]) == 0
    entry = tmp_path / "efficientnet-lite0" / "1"
    runtime = TensorFlowRuntime(entry)
    run_self_test(runtime, entry)
    pixels = to_input(
        decode(identify(encoded(data.chelsea())), max_pixels=10**6), width=224, height=224, channels=3, fit="crop"
    )
    evidence = runtime.evidence(pixels[None], np.zeros((1, 1, 1000), np.float32))
    best = [runtime.manifest.classes[i] for i in np.argsort(-evidence.probabilities[0])[:3]]
    assert best[0] in CATS
    assert len(CATS & set(best)) == 3
    heat = normalise(gradcam(evidence.features[0], evidence.gradients[0, 0])).values
    face, rim = heat[1:6, 1:6], (heat.sum() - heat[1:6, 1:6].sum()) / 24
    assert face.max() == 1.0
    assert face.mean() > 2 * rim
