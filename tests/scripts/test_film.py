"""The film to try the service with."""

import numpy as np
from PIL import Image

from app.imaging.decoding import decode
from app.imaging.headers import identify
from scripts.film import main
from tests.dicoms import packaged


def test_the_chest_film_is_written_upright_and_not_inverted(tmp_path):
    """1841 x 1955, grey, as its DICOM object is shown: the corners are air and dark, the spine is bone and bright."""
    assert main([str(tmp_path / "chest.png")]) == 0
    film = np.asarray(Image.open(tmp_path / "chest.png"))
    assert film.shape == (1955, 1841)
    assert film.dtype == np.uint8
    assert film[60:100, 30:110].mean() < 90
    assert film[900:1100, 880:960].mean() > 180
    assert (film == np.asarray(decode(identify(packaged("RG1_UNCR.dcm")), max_pixels=film.size).image)).all()
