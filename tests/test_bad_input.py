"""Whatever is sent: no 500, nothing told that helps an attacker, no memory kept, and the next request succeeds."""

from pathlib import Path

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.corpus import CORPUS, FILM, huge_png
from tests.doubles import BrightnessRuntime
from tests.servers import in_thread


@pytest.fixture(scope="module")
def service():
    with TestClient(create_app(Settings(), BrightnessRuntime()), raise_server_exceptions=False) as client:
        yield client


def harmless(answer):
    """An answer as it may be: problem details unless it is good, and nothing of the inside."""
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    for told in ("Traceback", "site-packages", str(Path.cwd()), ".py"):
        assert told not in answer.text
    assert len(answer.content) < 200_000
    return True


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus(service, path, name):
    """Each attack has its status; the next good request succeeds."""
    attack = CORPUS[name]
    answer = service.post(path, params=attack.query, **attack.request)
    assert harmless(answer)
    assert answer.status_code in attack.statuses, answer.text[:300]
    assert service.post(path, content=FILM).status_code == 200


def test_pixels_that_are_only_claimed_cost_no_memory(service):
    """Fifty thousand by fifty thousand would be 2.5 GB."""
    process = psutil.Process()
    service.post("/predict", content=FILM)
    before = process.memory_info().rss
    for _ in range(20):
        assert service.post("/predict", content=huge_png(50_000)).status_code == 413
    assert process.memory_info().rss - before < 50_000_000


@given(head=st.sampled_from([b"", *(FILM[:size] for size in (8, 33, 60, 400))]), tail=st.binary(max_size=2000))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bodies(service, head, tail):
    """Also those that begin as an image does."""
    assert harmless(service.post("/predict", content=head + tail))


@pytest.fixture(scope="module")
def url():
    """The address of the same service over a real socket."""
    with in_thread(create_app(Settings(), BrightnessRuntime())) as url:
        yield url


schema = schemathesis.openapi.from_dict(create_app(Settings(), BrightnessRuntime()).openapi())


@schema.include(path_regex="^/(predict|explain|models|metrics|livez|readyz)").parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_description_allows_is_answered_as_it_says(url, case):
    """Requests made from the OpenAPI description, valid and not: no failure, and every answer is described."""
    # A valid name of a class or a model depends on the store, so the description can't say which data are accepted.
    answer = case.call_and_validate(base_url=url, excluded_checks=[positive_data_acceptance])
    assert answer.status_code < 500
