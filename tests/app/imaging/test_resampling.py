"""The three ways to resample are those of Keras's own loaders, on real pictures."""

from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from app.imaging.decoding import decode, to_input
from app.imaging.headers import identify

PICTURES = [
    *(Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")),
    *(
        Path(skimage.data.__file__).parent / name
        for name in ("astronaut.png", "coffee.png", "chelsea.png", "camera.png")
    ),
]
SIZES = [(64, 64), (224, 224), (33, 47), (700, 900)]


def served(path, size, resize):
    picture = decode(identify(path.read_bytes()), max_pixels=10_000_000)
    return to_input(picture, height=size[0], width=size[1], channels=3, fit="squash", resize=resize)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_load_img_is_nearest_unless_asked_for_bilinear_which_is_antialiased(path, size):
    """Pixel for pixel."""
    assert (np.asarray(keras.utils.load_img(path, target_size=size)) == served(path, size, "nearest")).all()
    smooth = keras.utils.load_img(path, target_size=size, interpolation="bilinear")
    assert (np.asarray(smooth) == served(path, size, "antialias")).all()


def test_a_dataset_of_a_folder_is_bilinear(tmp_path):
    """To the whole number that is nearest to what Keras makes, which does not round."""
    for path in PICTURES:
        with Image.open(path) as image:  # Keras decodes JPEG by another library's transform
            image.convert("RGB").save(tmp_path / f"{path.stem}.png")
    for size in SIZES:
        dataset = keras.utils.image_dataset_from_directory(
            tmp_path,
            labels=None,
            image_size=size,
            shuffle=False,
            batch_size=1,
            verbose=False,
        )
        for path, batch in zip(sorted(tmp_path.iterdir()), dataset, strict=True):
            pixels = served(path, size, "bilinear").astype(np.float32)
            assert np.abs(pixels - batch[0].numpy()).max() <= 0.501


def test_one_channel_is_resampled_alike():
    """A grey picture as its three equal channels."""
    picture = decode(identify(PICTURES[-1].read_bytes()), max_pixels=10_000_000)
    for resize in ("antialias", "bilinear", "nearest"):
        grey, colour = (
            to_input(picture, height=50, width=60, channels=channels, fit="pad", resize=resize) for channels in (1, 3)
        )
        assert (grey == colour).all()
