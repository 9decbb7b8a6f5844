"""What is known of a request from the outside."""

import io
import json
import logging

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.telemetry import logs
from tests.doubles import BrightnessRuntime, BrokenRuntime
from tests.pictures import constant, encoded

BRIGHT = encoded(constant(255))


def metrics(client, **headers):
    """Every sample by its name and labels."""
    answer = client.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("text/plain")
    samples = (line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def test_requests_are_counted_by_route_and_status(client):
    """The route is a template, never what a client wrote."""
    client.post("/predict", content=BRIGHT)
    client.post("/predict", content=b"")
    client.get("/models/double")
    client.get("/models/nobody")
    client.get("/secret-path")
    client.request("BREW", "/predict")
    samples = metrics(client)
    for method, route, status in (
        ("POST", "/predict", 200),
        ("POST", "/predict", 400),
        ("GET", "/models/{name}", 200),
        ("GET", "/models/{name}", 404),
        ("GET", "unmatched", 404),
    ):
        labels = f'{{method="{method}",route="{route}",status="{status}"}}'
        assert samples[f"lightbox_requests_total{labels}"] == 1
    assert [value for name, value in samples.items() if name.startswith('lightbox_requests_total{method="other"')] == [
        1
    ]
    assert not [name for name in samples if "secret-path" in name or "nobody" in name or "BREW" in name]
    assert samples['lightbox_request_seconds_count{route="/predict",status="200"}'] == 1


def test_predictions_and_the_model_are_metrics(client):
    """Classes as drift signals; which model is in memory."""
    client.post("/predict", content=BRIGHT)
    client.post("/explain", content=BRIGHT)
    samples = metrics(client)
    assert samples['lightbox_predictions_total{class="bright",model="double",version="3"}'] == 2
    assert samples['lightbox_model_info{device="CPU",model="double",version="3"}'] == 1
    for stage in ("decode", "queue", "inference", "render"):
        count = samples[f'lightbox_stage_seconds_count{{stage="{stage}"}}']
        assert count == (1 if stage == "render" else 2)
    assert samples["lightbox_queue_depth"] == samples["lightbox_in_flight_requests"] == 0


@pytest.fixture
def log_lines():
    """What is logged as JSON, as it is logged."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure("info", "json")
    (handler,) = root.handlers
    handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_every_request_is_one_line_with_its_id(log_lines):
    """And what its handling logs carries the same id."""
    with TestClient(create_app(Settings(), BrokenRuntime())) as client:
        client.post("/predict?class=hidden", content=BRIGHT, headers={"x-request-id": "r-1"})
        client.get("/livez", headers={"x-request-id": "r-2"})
    lines = [line for line in log_lines() if line["request_id"] == "r-1"]
    assert [line["logger"] for line in lines] == ["lightbox.access"]
    assert lines[0]["status"] == 422
    assert lines[0]["route"] == "/predict"
    assert lines[0]["milliseconds"] > 0
    assert "hidden" not in json.dumps(lines)
    assert not [line for line in log_lines() if line["request_id"] == "r-2"]


def test_a_failure_is_logged_with_its_trace_and_its_request(log_lines):
    """One JSON object a line, the trace inside."""
    with TestClient(create_app(Settings(), BrokenRuntime())) as client:
        client.post("/predict", content=BRIGHT, headers={"x-request-id": "r-3"})
    failures = [line for line in log_lines() if line["level"] == "ERROR"]
    assert len(failures) == 1
    assert failures[0]["request_id"] == "r-3"
    assert "secret detail" in failures[0]["exc_info"]


def test_on_a_terminal_lines_are_for_people(capsys):
    """No JSON where a person reads."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info", "text")
        logging.getLogger("lightbox.test").info("a lamp is lit")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert "INFO    a lamp is lit  [lightbox.test -]" in capsys.readouterr().err


KEYED = Settings(api_keys="first, second", cors_origins="https://ward.example")


@pytest.mark.parametrize("path", ["/predict", "/explain", "/models", "/models/double", "/metrics"])
def test_where_keys_are_set_one_is_needed(path):
    """401 as problem details, before anything else is looked at."""
    with TestClient(create_app(KEYED, BrightnessRuntime())) as client:
        method = "POST" if path in ("/predict", "/explain") else "GET"
        for headers in ({}, {"x-api-key": "third"}):
            answer = client.request(method, path, headers=headers, content=BRIGHT if method == "POST" else None)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "third" not in answer.text
        for headers in ({"x-api-key": "second"}, {"authorization": "Bearer first"}):
            answer = client.request(method, path, headers=headers, content=BRIGHT if method == "POST" else None)
            assert answer.status_code == 200


def test_health_needs_no_key():
    """A probe has none."""
    with TestClient(create_app(KEYED, BrightnessRuntime())) as client:
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_keys_are_not_shown_by_the_settings():
    """A printed or logged setting must not tell them."""
    assert "first" not in repr(KEYED)
    assert "first" not in str(KEYED.model_dump())


def test_other_origins_are_let_in_only_where_they_are_named(client):
    """CORS is off unless set."""
    origin = {"origin": "https://ward.example"}
    assert "access-control-allow-origin" not in client.get("/livez", headers=origin).headers
    with TestClient(create_app(KEYED, BrightnessRuntime())) as other:
        assert other.get("/livez", headers=origin).headers["access-control-allow-origin"] == origin["origin"]
        foreign = other.get("/livez", headers={"origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in foreign.headers
