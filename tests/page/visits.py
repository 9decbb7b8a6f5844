"""A person's visit to the page, in a real browser."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import numpy as np
from playwright.sync_api import Page, Route, expect

from tests.pictures import decoded, encoded, noise

FILM = encoded(noise(120, 90))
KEY = "open-sesame-0123456789"


@dataclass
class Visit:
    """A tab on the page, with everything that it asked for and complained about."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def put(self, data: bytes = FILM, name: str = "film.png") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data})

    def drop(self, data: bytes, name: str) -> None:
        """Drop a file on the page, by the event that a browser sends."""
        transfer = self.page.evaluate_handle(
            """([name, base64]) => {
                const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name));
                return transfer;
            }""",
            [name, base64.b64encode(data).decode()],
        )
        self.page.dispatch_event("#well", "drop", {"dataTransfer": transfer})

    def hold(self) -> list[Route]:
        """Keep the next question from the service, until `release`."""
        held: list[Route] = []
        # Not the method itself: Playwright looks at the signature, which a built-in has none of.
        self.page.route("**/explain?*", lambda route: held.append(route), times=1)  # noqa: PLW0108
        return held

    def release(self, held: list[Route]) -> None:
        """Let the question that was held go on, as soon as it is there."""
        for _ in range(500):
            if held:
                held.pop().continue_()
                return
            self.page.wait_for_timeout(10)
        raise AssertionError("no question came")

    def settle(self) -> None:
        """Wait until it is idle."""
        expect(self.page.locator("#main")).to_have_attribute("aria-busy", "false")

    def explained(self, data: bytes = FILM, name: str = "film.png") -> None:
        """Put a film, and wait for its answer."""
        self.put(data, name)
        expect(self.page.locator("#about")).to_contain_text(name)
        self.settle()

    def pixels(self) -> np.ndarray:
        """What the film's canvas shows, uint8 `[H, W, 3]`."""
        data = self.page.evaluate("document.getElementById('image').toDataURL('image/png')")
        return decoded(base64.b64decode(data.split(",")[1]))[..., :3]

    def asked(self) -> list[dict[str, str]]:
        """The parameters of every question about a film, in order."""
        explained = [urlsplit(url) for url in self.requests if urlsplit(url).path == "/explain"]
        return [{name: values[0] for name, values in parse_qs(url.query).items()} for url in explained]


def assert_alike(drawn: np.ndarray, served: np.ndarray) -> None:
    """The page's picture is the service's, within a step of 255.

    A heat on the edge of two bins may fall into either: sums of float32 and float64 differ there.
    """
    difference = np.abs(drawn.astype(int) - served.astype(int))
    assert np.quantile(difference, 0.995) <= 1
    assert difference.max() <= 8
