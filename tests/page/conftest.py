"""Tests in this folder drive Chromium, over servers that speak over real sockets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from app.artifact.runtimes.base import Runtime
from app.main import create_app
from app.settings import Settings
from tests.doubles import BrightnessRuntime
from tests.page.visits import KEY, Visit
from tests.servers import Server, in_thread

FAILED_LOAD = "Failed to load resource"
expect.set_options(timeout=30_000)  # on a busy machine an answer takes more than the five seconds of the default
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("browser")
    if CHROMIUM is None:
        item.add_marker(pytest.mark.skip(reason="needs Chromium"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that ends with the module: while it runs, the main thread has an event loop."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def locked_server() -> Iterator[str]:
    """A server that requires a key."""
    with in_thread(create_app(Settings(api_keys=KEY), BrightnessRuntime())) as url:
        yield url


@pytest.fixture(scope="session")
def shipped_server(shipped_runtime: Runtime) -> Iterator[str]:
    """A server of the model that the project ships, which recognises images unlike those that it was trained on."""
    with in_thread(create_app(Settings(), shipped_runtime)) as url:
        yield url


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, shared_server: Server) -> Iterator[Visitor]:
    """Opens the page; whatever a test does there, the console stays empty and no other host is asked for anything."""
    visits = []

    def opened(url: str = shared_server.url, **options: object) -> Visit:
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
    """The page, once it shows which model is served."""
    opened = visit()
    expect(opened.page.locator("#served")).to_contain_text("tiny, version 2")
    return opened
