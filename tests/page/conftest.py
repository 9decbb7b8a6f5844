"""Debian's Chromium, over real server processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import keras
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from scripts.exporting.keras_files import export
from tests import models
from tests.page.visits import KEY, Visit
from tests.servers import served

FAILED_LOAD = "Failed to load resource"
SHIPPED = Path(__file__).parents[2] / "model_store" / "cxr-vgg16" / "1"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Its own processes, ended with the module: while it runs, the main thread has an event loop."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of two versions, which sees a film's middle only, beside one of which all is known."""
    store, classes = tmp_path_factory.mktemp("store"), ("NORMAL", "PNEUMONIA", "COVID-19")
    keras.utils.set_random_seed(0)
    export(models.planted_square(), ("dark", "bright"), "planted", store, version=4)
    export(models.gap_linear(), classes, "tiny", store, fit="crop")
    return export(models.batch_norm_dropout(), classes, "tiny", store, fit="crop")


@pytest.fixture(scope="session")
def server(chromium: str, entry: Path) -> Iterator[str]:  # noqa: ARG001  # without a browser no server is needed
    """A server that takes films of up to 3 MB."""
    with served(entry, LIGHTBOX_MAX_UPLOAD_BYTES="3000000") as url:
        yield url


@pytest.fixture(scope="session")
def locked_server(chromium: str, entry: Path) -> Iterator[str]:  # noqa: ARG001
    """A server that asks for a key."""
    with served(entry, LIGHTBOX_API_KEYS=KEY) as url:
        yield url


@pytest.fixture(scope="session")
def shipped_server(chromium: str) -> Iterator[str]:  # noqa: ARG001
    """The model that the project ships, which knows what is unlike its films."""
    with served(SHIPPED) as url:
        yield url


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator[Visitor]:
    """Opens the page; afterwards, whatever was done: no complaint in the console, no request to another host."""
    visits = []

    def opened(url: str = server, **options: object) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        page = browser.new_context(**options).new_page()
        seen = Visit(page, url)
        visits.append(seen)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda said: said.type in ("error", "warning") and seen.complaints.append(said.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.goto(url)
        return seen

    yield opened
    for seen in visits:
        seen.page.context.close()
        assert not [text for text in seen.complaints if FAILED_LOAD not in text]
        hosts = {urlsplit(url).netloc for url in seen.requests if not url.startswith(("blob:", "data:"))}
        assert hosts == {urlsplit(seen.url).netloc}


@pytest.fixture
def tab(visit: Visitor) -> Visit:
    """The page, once it knows what is served."""
    opened = visit()
    expect(opened.page.locator("#served")).to_contain_text("tiny, version 2")
    return opened
