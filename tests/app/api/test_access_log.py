"""What is known of a request from the outside."""

import io
import json
import logging

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.telemetry import logs
from tests.doubles import BrokenRuntime
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
        labels = f'{{method="{method}",protocol="lightbox",route="{route}",status="{status}"}}'
        assert samples[f"lightbox_requests_total{labels}"] == 1
    assert [value for name, value in samples.items() if name.startswith('lightbox_requests_total{method="other"')] == [
        1
    ]
    assert not [name for name in samples if "secret-path" in name or "nobody" in name or "BREW" in name]
    assert samples['lightbox_request_seconds_count{protocol="lightbox",route="/predict",status="200"}'] == 1


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
