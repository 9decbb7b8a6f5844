"""What an explanation was made from."""

import hashlib
import json
from dataclasses import asdict

from app import __version__
from app.artifact.manifest import RegionSpec
from app.artifact.runtimes.base import Library
from app.explain.provenance import model_digest, receipt
from tests.doubles import manifest

FILES = {
    "variables/variables.index": "b" * 64,
    "saved_model.pb": "a" * 64,
    "report/report.html": "c" * 64,
    "golden.npz": "d" * 64,
}


def model(**changes):
    return manifest().model_copy(update={"files": FILES, **changes})


def test_the_same_request_gives_the_same_bytes():
    """And all that it was made from is in it."""
    first, second = (
        json.dumps(asdict(receipt(model(), b"image", "gradcam", (1, 0, 0), Library("onnxruntime", "1.30"))))
        for _ in range(2)
    )
    assert first == second
    assert json.loads(first) == {
        "image_sha256": hashlib.sha256(b"image").hexdigest(),
        "model": "double",
        "version": 3,
        "model_sha256": model_digest(model()),
        "method": "gradcam",
        "classes": ["dark", "middle", "bright"],
        "target": [1.0, 0.0, 0.0],
        "layer": "blocks",
        "box": [0.0, 0.0, 1.0, 1.0],
        "region": None,
        "fit": "squash",
        "resize": "antialias",
        "lightbox": __version__,
        "library": "onnxruntime",
        "library_version": "1.30",
    }


def test_what_decides_where_the_model_looked_is_recorded():
    """The box of this image, and what the manifest says about the organ: neither is among the model's files."""
    organ = RegionSpec(name="lungs", gated=True, min_share_of_image=0.02, min_share_of_heat={"gradcam": 0.4})
    box, library = (0.1, 0.2, 0.9, 0.8), Library("onnxruntime", "1.30")
    found = receipt(model(region=organ), b"image", "gradcam", (1, 0, 0), library, box)
    assert found.box == box
    assert asdict(found)["region"] == {"name": "lungs", "gated": True, "min_share_of_image": 0.02}


def test_the_models_digest_is_what_sha256sum_gives_for_its_graph_and_weights():
    """In the order of their paths; reports and golden cases decide no answer."""
    lines = f"{'a' * 64}  saved_model.pb\n{'b' * 64}  variables/variables.index\n"
    assert model_digest(model()) == hashlib.sha256(lines.encode()).hexdigest()
    assert model_digest(model(files=FILES | {"report/report.html": "e" * 64})) == model_digest(model())
    assert model_digest(model(files=FILES | {"saved_model.pb": "e" * 64})) != model_digest(model())
