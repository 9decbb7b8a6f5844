"""Every error as problem details, and a service that goes on serving after each."""

import base64
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime, BrokenRuntime, GatedRuntime
from tests.pictures import encoded, noise

FILM = encoded(noise(40, 60, 3))
SMALL = Settings(max_upload_bytes=10_000, max_image_pixels=5_000)


def problem(answer, status):
    """The problem details of `answer`, checked for the form that all have."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["detail"]
    assert body["detail"] == body["error"]
    assert body["title"]
    assert body["type"]
    assert answer.headers["x-request-id"] in body["instance"]
    return body


def chunks(size):
    yield from (b"x" * 1000 for _ in range(size // 1000))


ROWS = {
    "no body": ({"content": b""}, 400, "no body"),
    "malformed form": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "multipart"),
    "form without file": ({"files": {"picture": ("a", FILM)}}, 400, "'file'"),
    "malformed JSON": ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON"),
    "JSON without image": ({"json": {}}, 400, "base64"),
    "not base64": ({"json": {"image": "!"}}, 400, "base64"),
    "too many bytes, declared": ({"content": b"x" * 10_001}, 413, "10000 bytes"),
    "too many bytes, streamed": ({"content": chunks(20_000)}, 413, "10000 bytes"),
    "too many pixels": ({"content": encoded(noise(1, 1).repeat(80, 0).repeat(80, 1))}, 413, "80 x 80"),
    "not an image": ({"content": b"hello"}, 415, "PNG"),
    "not an image, in JSON": ({"json": {"image": base64.b64encode(b"hello").decode()}}, 415, "PNG"),
    "truncated": ({"content": FILM[:200]}, 422, "truncated"),
    "no answer type": ({"content": FILM, "headers": {"accept": "text/html"}}, 406, "application/json"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_the_error_table(path, row):
    """Status, problem details, a reason that names what was expected; the next good request succeeds."""
    request, status, reason = ROWS[row]
    if row == "too many bytes, streamed":
        request = {"content": chunks(20_000)}
    with TestClient(create_app(SMALL, BrightnessRuntime())) as client:
        assert reason in problem(client.post(path, **request), status)["detail"]
        assert client.post(path, content=FILM).status_code == 200


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("class=lung", "dark, middle, bright"),
        ("against=lung", "dark, middle, bright"),
        ("class=dark&against=dark", "two classes"),
        ("method=occlusion", "gradcam"),
        ("format=bmp", "png, jpeg, webp"),
        ("colormap=rainbow", "jet, turbo, viridis, inferno"),
        ("alpha=1.5", "less than or equal to 1"),
        ("alpha=-0.1", "greater than or equal to 0"),
        ("alpha=nan", "alpha"),
        ("alpha=much", "number"),
        ("clas=dark", "clas"),
        ("class=dark&class=bright", "given more than once"),
    ],
)
def test_questions_that_have_no_answer(client, query, listed):
    """422, and the valid ones are listed; a misspelt parameter is not ignored."""
    assert listed in problem(client.post(f"/explain?{query}", content=FILM), 422)["detail"]
    assert client.post("/explain", content=FILM).status_code == 200


def test_no_model_is_not_ready():
    """503 with Retry-After, for images and for readiness."""
    client = TestClient(create_app(Settings(), BrightnessRuntime()))
    for answer in (client.post("/predict", content=FILM), client.get("/readyz")):
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


def test_no_result_in_time():
    """504, and the next request succeeds."""
    runtime = GatedRuntime()
    with TestClient(create_app(Settings(request_timeout_s=1), runtime)) as client:
        problem(client.post("/predict", content=FILM), 504)
        runtime.gate.set()
        assert client.post("/predict", content=FILM).status_code == 200


def test_too_many_at_once():
    """503 with Retry-After, at once; those inside are answered."""
    runtime = GatedRuntime()
    with TestClient(create_app(Settings(max_concurrent_requests=1), runtime)) as client, ThreadPoolExecutor(1) as pool:
        inside = pool.submit(client.post, "/predict", content=FILM)
        assert runtime.entered.wait(timeout=10)
        refused = client.post("/predict", content=FILM)
        problem(refused, 503)
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/livez").status_code == 200
        runtime.gate.set()
        assert inside.result().status_code == 200


def test_long_names_are_not_echoed_whole(client):
    """What a client sends comes back as an excerpt."""
    assert len(problem(client.post(f"/explain?class={'x' * 5000}", content=FILM), 422)["detail"]) < 300


def test_an_unforeseen_failure_says_nothing_outside_and_everything_in_the_log(caplog):
    """500 without a trace in the body; the trace is logged once, with the request's id."""
    with (
        TestClient(create_app(Settings(), BrokenRuntime())) as client,
        caplog.at_level(logging.ERROR),
    ):
        body = problem(client.post("/predict", content=FILM, headers={"x-request-id": "r-7"}), 500)
        assert client.get("/livez").status_code == 200
    assert "secret" not in str(body)
    records = [record for record in caplog.records if "r-7" in record.getMessage()]
    assert len(records) == 1
    assert "secret detail" in str(records[0].exc_info[1])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/predict", 405), ("GET", "/models/nope", 404)]
)
def test_what_is_not_there(client, method, path, status):
    """Also as problem details."""
    problem(client.request(method, path), status)
