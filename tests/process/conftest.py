"""A server that several tests share, and ports for those that need one of their own."""

import pytest

from scripts.benchmarks.load import wait_until_ready
from tests import models
from tests.servers import free_port, serving


@pytest.fixture
def unused_port():
    return free_port()


@pytest.fixture(scope="module")
def shared_process_and_port(entry_of):
    port = free_port()
    with serving(entry_of(models.batch_norm_dropout), port, LIGHTBOX_LOG_LEVEL="error") as (process, url):
        wait_until_ready(url, process)
        yield process, port


@pytest.fixture
def shared_server(shared_process_and_port):
    """Port and URL of a server that several tests use."""
    port = shared_process_and_port[1]
    return port, f"http://127.0.0.1:{port}"


@pytest.fixture
def shared_process(shared_process_and_port):
    return shared_process_and_port[0]
