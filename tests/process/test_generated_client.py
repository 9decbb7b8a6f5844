"""A client that openapi-python-client generates from the service's own description."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.pictures import encoded, noise


@pytest.fixture(scope="module")
def generated(shared_server, tmp_path_factory):
    """The address of the server that the generated client speaks to; the client can be imported meanwhile."""
    url = shared_server.url
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(httpx.get(f"{url}/openapi.json").json()))
    command = [
        Path(sys.executable).with_name("openapi-python-client"),
        "generate",
        "--meta",
        "none",
        "--fail-on-warning",
    ]
    done = subprocess.run(
        [*command, "--path", folder / "openapi.json", "--output-path", folder / "lightbox_client"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # it formats with ruff
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    sys.path.insert(0, str(folder))
    yield url
    sys.path.remove(str(folder))


def part(name):
    return importlib.import_module(f"lightbox_client.{name}")


@pytest.fixture
def client(generated):
    with part("client").Client(base_url=generated) as client:
        yield client


@pytest.mark.parametrize("body", ["form", "raw"])
def test_it_gets_an_image_explained(client, body):
    """It sends a form field or raw bytes, and returns typed answers."""
    file = part("types").File(payload=encoded(noise()), file_name="film.png", mime_type="image/png")
    sent = part("models").ImageForm(file=file) if body == "form" else file
    answer = part("api.images.explain").sync(client=client, body=sent, class_="PNEUMONIA", overlay=False)
    assert isinstance(answer, part("models").ExplanationOut)
    assert answer.explanation.class_ == "PNEUMONIA"
    assert answer.explanation.overlay is None
    assert len(answer.explanation.heatmap.values) == answer.explanation.heatmap.height
    assert answer.probabilities["PNEUMONIA"] == answer.probabilities.additional_properties["PNEUMONIA"]


def test_it_understands_an_error(client):
    """An answer that is no success becomes a typed problem."""
    file = part("types").File(payload=encoded(noise()))
    answer = part("api.images.explain").sync(client=client, body=file, class_="FRACTURE")
    assert isinstance(answer, part("models").Problem)
    assert answer.status == 422
    assert "FRACTURE" in answer.detail


def test_it_lists_the_models(client):
    """One of them is the default."""
    listed = part("api.models.models").sync(client=client).models
    assert {model.name: model.default for model in listed} == {"planted": False, "tiny": True}
