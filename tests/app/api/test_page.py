"""The page's files as they are served; what they do in a browser is in tests/page."""

import re

import numpy as np
import pytest
from PIL import Image

from app.imaging import overlay
from scripts.datasets.samples import film_of
from tests.pictures import decoded

FILES = [
    "index.html",
    "page.css",
    "page.js",
    "heat.js",
    "probe.js",
    "service.js",
    "view.js",
    "icon.svg",
    "sample.jpg",
    "colormaps.json",
]

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}  # what Firefox sends
MEDIA_TYPES = {
    "html": ["text/html"],
    "css": ["text/css"],
    "js": ["text/javascript", "application/javascript"],  # as the system's table of types has it
    "svg": ["image/svg+xml"],
    "jpg": ["image/jpeg"],
    "json": ["application/json"],
}


def test_the_page_allows_nothing_from_elsewhere(client):
    """Every source of the policy is this server, nothing, or what the page itself made."""
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "geolocation=()" in answer.headers["permissions-policy"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_and_kept(client, name):
    """With its kind, and not sent again to a browser that has it."""
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] in MEDIA_TYPES[name.rpartition(".")[2]]
    assert "content-security-policy" in answer.headers
    again = client.get(f"/static/{name}", headers={"if-none-match": f'"other", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    changed = client.get(f"/static/{name}", headers={"if-none-match": '"other"'})
    assert changed.content == answer.content


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/json, text/html;q=0.5", "nonsense", "image/png"]
)
def test_the_root_says_that_the_service_is_alive_to_who_asks_for_no_html(client, accept):
    """As KServe's V1 clients want it; httpx sends `*/*` by itself."""
    answer = client.get("/", headers={} if accept is None else {"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"status": "alive"}
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", ["nope.js", "..%2Fmain.py", "..%2Froutes.py", "%2Fetc%2Fpasswd", "__init__.py", "%00"])
def test_nothing_else_is_served(client, name):
    """No path leads out of the folders."""
    assert client.get(f"/static/{name}").status_code == 404


def test_the_page_refers_to_files_that_there_are(client):
    """By relative addresses, so that it works behind a prefix, too."""
    text = client.get("/", headers=BROWSER).text
    referred = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert {name.removeprefix("static/") for name in referred if name != "docs"} <= set(FILES)


def test_the_colours_are_the_overlays_own(client):
    """Every colour map, in the same order."""
    tables = client.get("/static/colormaps.json").json()
    assert list(tables) == list(overlay.COLORMAPS)
    for name, table in tables.items():
        np.testing.assert_array_equal(np.float32(table), overlay.colours(name))


def test_the_sample_is_the_film_of_pydicom_data(client):
    """No film of a data set; small enough to commit."""
    body = client.get("/static/sample.jpg").content
    assert len(body) <= 60_000
    sample = decoded(body).astype(int)
    film = Image.fromarray(film_of("RG1_UNCR.dcm")).resize(sample.shape[::-1], Image.Resampling.LANCZOS)
    assert np.abs(sample - np.asarray(film)).mean() < 3
