"""Real clients of the inference protocols, in an environment of their own, and the examples of the documentation."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import SHIPPED
from tests.pictures import encoded, noise
from tests.servers import free_port, serving

ROOT = Path(__file__).parents[2]
ONE, TWO = encoded(noise(300, 400)), encoded(noise(200, 100, 3, seed=1))
NAME = SHIPPED.parent.name
PARAMETERS = {"class": "PNEUMONIA", "alpha": 0.25}
EXAMPLES = re.findall(
    r"^```(bash|python|js)\n(.*?)^```$", (ROOT / "docs/protocols.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def clients():
    """The Python of the environment with the clients."""
    return os.environ.get("LIGHTBOX_PROTOCOLS") or pytest.skip("needs LIGHTBOX_PROTOCOLS: make protocols")


@pytest.fixture(scope="module")
def served():
    """A server process over the shipped model, for images of up to 8 MB, and its port of gRPC."""
    port = free_port()
    with serving(SHIPPED, LIGHTBOX_GRPC_PORT=str(port), LIGHTBOX_MAX_UPLOAD_BYTES="8000000") as server:
        yield server.url, port


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images for the clients."""
    folder = tmp_path_factory.mktemp("images")
    for name, data in {"one.png": ONE, "two.png": TWO, "bad.png": ONE[:1000], "large.bin": bytes(9_000_000)}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def own(served):
    """What `/predict` and `/explain` answer to the images."""
    url, _ = served
    return {
        "predicted": [httpx.post(f"{url}/predict", content=each, timeout=60).json() for each in (ONE, TWO)],
        "explained": [
            httpx.post(f"{url}/explain", content=each, params=PARAMETERS, timeout=60).json() for each in (ONE, TWO)
        ],
    }


def asked(clients, served, folder, name):
    """What the client `name` understood."""
    url, port = served
    command = [clients, ROOT / "tests" / "clients" / f"{name}_client.py", url, str(port), NAME, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def kserve(clients, served, folder):
    return asked(clients, served, folder, "kserve")


@pytest.fixture(scope="module")
def triton(clients, served, folder):
    return asked(clients, served, folder, "triton")


@pytest.fixture(scope="module")
def tensorflow_serving(clients, served, folder):
    return asked(clients, served, folder, "tensorflow_serving")


def close(found, expected):
    """A batch of two is computed in another order than two images are."""
    return np.allclose(np.ravel(found), np.ravel(expected), rtol=1e-3, atol=1e-5)


def check_rows(rows, expected):
    """Rows of predictions are answers of `/predict`."""
    for row, own in zip(rows, expected, strict=True):
        assert row.keys() == own.keys() & row.keys() >= {"label", "probabilities", "warnings"}
        assert (row["label"], row["model"], row["image"]) == (own["label"], own["model"], own["image"])
        assert close(list(row["probabilities"].values()), list(own["probabilities"].values()))
        assert [each["code"] for each in row["warnings"]] == [each["code"] for each in own["warnings"]]


def check_tensors(found, expected):
    """Tensors carry what `/explain` answers."""
    assert found["label"] == [each["label"] for each in expected]
    assert close(found["probabilities"], [list(each["probabilities"].values()) for each in expected])
    assert close(found["novelty"], [each["novelty"]["score"] for each in expected])
    assert np.allclose(
        np.ravel(found["heatmap"]), np.ravel([each["explanation"]["heatmap"]["values"] for each in expected]), atol=0.01
    )
    for picture, each in zip(found["overlay"], expected, strict=True):
        assert is_alike(picture, each["explanation"]["overlay"]["data"])


def is_alike(one, other):
    """Two pictures, base64, but for the rounding of colours."""
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))), np.int16) for each in (one, other)]
    return pixels[0].shape == pixels[1].shape and np.abs(pixels[0] - pixels[1]).max() <= 4


def test_kserve_v1(kserve, own):
    """Liveness, readiness, predict, explain with a parameter, two images at once."""
    found = kserve["v1"]
    assert (found["live"], found["ready"], found["size"]) == (True, True, [400, 300])
    check_rows(found["predicted"]["predictions"], own["predicted"])
    check_rows(found["explained"]["predictions"], own["explained"])
    for explanation, each in zip(found["explained"]["explanations"], own["explained"], strict=True):
        assert explanation["class"] == "PNEUMONIA"
        assert np.allclose(explanation["heatmap"]["values"], each["explanation"]["heatmap"]["values"], atol=0.01)
        assert explanation["receipt"] == each["receipt"]
        assert is_alike(explanation["overlay"]["data"], each["explanation"]["overlay"]["data"])


def test_kserve_v2(kserve, own):
    """Binary inputs, base64 in JSON, outputs of either form, its id."""
    found = kserve["v2"]
    assert (found["live"], found["ready"], found["size"], found["id"]) == (True, [True, True], [400, 300], "the-id")
    assert found["unknown model's readiness"] is False
    check_tensors(found["explained"], own["explained"])
    assert found["shapes"] == {
        "label": [2],
        "probabilities": [2, 3],
        "novelty": [2],
        "heatmap": [2, 14, 14],
        "overlay": [2],
    }
    assert found["json"]["label"] == [each["label"] for each in own["predicted"]]
    assert found["chosen"].keys() == {"heatmap", "label"}
    assert np.allclose(found["chosen"]["heatmap"], np.ravel(found["explained"]["heatmap"])[:196], atol=0.01)


def test_kserve_over_grpc(kserve, own):
    """The same."""
    found = kserve["grpc"]
    assert (found["live"], found["ready"], found["id"]) == (True, [True, True], "the-id")
    assert found["explained"]["size"] == [400, 300]
    check_tensors(found["explained"], own["explained"])


def test_kserve_shows_the_reasons_of_errors(kserve):
    """Which it does for `application/json` only."""
    for version in ("v1", "v2"):
        errors = kserve[version]["errors"]
        assert "image 1: the PNG image can't be decoded" in errors["bad image"]
        assert "no model 'nobody'; available: cxr, cxr-vgg16" in errors["unknown model"]
        assert "8000000 bytes" in errors["over the limit"]
    assert "no model 'nobody'" in kserve["v1"]["errors"]["unknown model's readiness"]
    assert "unknown output 'logits'; valid: label, probabilities, novelty" in kserve["v2"]["errors"]["unknown output"]
    assert "BYTES" in kserve["v2"]["errors"]["wrong type"]
    assert kserve["grpc"]["errors"]["bad image"].startswith("INVALID_ARGUMENT: image 1: ")
    assert kserve["grpc"]["errors"]["unknown model"].startswith("NOT_FOUND: ")


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_triton(triton, own, way):
    """Liveness, readiness, metadata, versions, two images at once, compression, pixels."""
    found = triton[way]
    assert (found["live"], found["ready"], found["id"]) == (True, [True, True, True], "the-id")
    assert found["metadata"] == ["label", "probabilities", "novelty"]
    assert found["explained"]["size"] == [400, 300]
    check_tensors(found["explained"], own["explained"])
    assert np.allclose(found["chosen"], np.ravel(found["explained"]["heatmap"][0]), atol=0.01)
    assert found["others"] is True
    for name in ("compressed", "version", "json"):
        assert close(found[name], list(own["predicted"][0]["probabilities"].values()))
    assert found["pixels"] is True


@pytest.mark.parametrize(
    ("name", "http", "grpc", "reason"),
    [
        ("bad image", "422", "INVALID_ARGUMENT", "image 1: the PNG image"),
        ("unknown model", "404", "NOT_FOUND", "no model 'nobody'"),
        ("unknown version", "404", "NOT_FOUND", "no version 9"),
        ("unknown output", "422", "INVALID_ARGUMENT", "unknown output 'logits'"),
        ("wrong type", "400", "INVALID_ARGUMENT", "BYTES"),
        ("over the limit", "413", "RESOURCE_EXHAUSTED", ""),
        ("shared memory", "400", "UNIMPLEMENTED", "does not support"),
        ("repository", "400", "UNIMPLEMENTED", "does not support"),
        ("loading", "400", "UNIMPLEMENTED", "does not support"),
        ("statistics", "400", "UNIMPLEMENTED", "does not support"),
        ("configuration", "400", "UNIMPLEMENTED", "does not support"),
    ],
)
def test_triton_shows_the_reasons_of_errors(triton, name, http, grpc, reason):
    """With the status of each way."""
    for way, status in (("http", http), ("grpc", f"StatusCode.{grpc}")):
        shown = triton[way]["errors"][name]
        assert shown.startswith(f"{status}: "), shown
        assert reason in shown


def test_triton_is_told_that_there_are_no_streams(triton):
    """Instead of waiting for one."""
    assert "does not support ModelStreamInfer" in triton["stream"]


def test_tensorflow_serving(tensorflow_serving, own):
    """Its messages hold the answers; rows and columns; a version in the path."""
    found = tensorflow_serving
    assert found["versions"] == [[1, "AVAILABLE"]]
    assert found["outputs"] == ["label", "novelty", "probabilities"]
    assert found["dtypes"] == [4, 7]  # DT_UINT8 and DT_STRING
    check_rows(found["rows"]["predictions"], own["predicted"])
    columns = found["columns"]["outputs"]
    assert columns["label"] == [each["label"] for each in own["predicted"]]
    assert close(columns["probabilities"], [list(each["probabilities"].values()) for each in own["predicted"]])
    assert "image 1: " in found["errors"]["bad image"]["error"]
    assert "no version 9" in found["errors"]["unknown version"]["error"]


def test_there_is_an_example_for_each_client():
    """Or the next test would run none."""
    assert [language for language, _ in EXAMPLES] == ["bash", "python", "python", "python", "js"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_documentation(served, tmp_path, request, number):
    """Each prints what the service answers to the film."""
    language, code = EXAMPLES[number]
    url, port = served
    Image.open(ROOT / "app/api/static/sample.jpg").save(tmp_path / "chest.png")
    expected = httpx.post(f"{url}/predict", content=(tmp_path / "chest.png").read_bytes(), timeout=60).json()
    code = code.replace("localhost:8000", url.removeprefix("http://")).replace("localhost:8001", f"127.0.0.1:{port}")
    if language == "python":
        command = [request.getfixturevalue("clients"), "-c", code]
    elif language == "bash":
        command = [_tool("bash"), "-euo", "pipefail", "-c", code]
        _tool("curl")
    else:
        command = [_tool("node"), "--input-type=module", "-e", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(expected["label"]) >= (2 if language == "bash" else 1)


def _tool(name):
    return shutil.which(name) or pytest.skip(f"needs {name}")
