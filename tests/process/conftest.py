"""Tests in this folder start server processes, or use those that tests share."""

import pytest

from tests import models
from tests.servers import serving


def pytest_itemcollected(item):
    item.add_marker("process")


@pytest.fixture(scope="session")
def narrow_server(entry_of):
    """A server with two slots and room for 128 open files, which takes long to judge a heatmap's faithfulness."""
    with serving(
        entry_of(models.batch_norm_dropout),
        open_files=128,
        LIGHTBOX_MAX_CONCURRENT_REQUESTS="2",
        LIGHTBOX_FAITHFULNESS_STEPS="32",
        LIGHTBOX_FAITHFULNESS_MAPS="199",
    ) as server:
        yield server
