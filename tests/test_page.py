"""The page in a real browser, over a real server process."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from app.geometry import seen_region
from app.overlay import Style, colours, render
from scripts.export import export
from scripts.load import wait_until_ready
from tests import models
from tests.pictures import decoded, encoded, noise
from tests.test_process import serving

FILM = encoded(noise(120, 90))
FAILED_LOAD = "Failed to load resource"


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; its own processes, ended with the module."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a process that serves a tiny model, which sees a film's middle only."""
    keras.utils.set_random_seed(0)
    classes = ("NORMAL", "PNEUMONIA", "COVID-19")
    entry = export(models.batch_norm_dropout(), classes, "tiny", tmp_path_factory.mktemp("store"), fit="crop")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(entry, port, LIGHTBOX_MAX_UPLOAD_BYTES="3000000") as (process, url):
        wait_until_ready(url, process)
        yield url


@dataclass
class Visit:
    """A tab on the page, with everything that it asked for and complained about."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def put(self, data: bytes = FILM, name: str = "film.png") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data})

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
        data = self.page.evaluate("document.getElementById('film').toDataURL('image/png')")
        return decoded(base64.b64decode(data.split(",")[1]))[..., :3]

    def asked(self) -> list[dict[str, str]]:
        """The parameters of every question about a film, in order."""
        explained = [urlsplit(url) for url in self.requests if urlsplit(url).path == "/explain"]
        return [{name: values[0] for name, values in parse_qs(url.query).items()} for url in explained]


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, server: str):
    """Opens the page; afterwards, whatever was done: no complaint in the console, no request to another host."""
    visits = []

    def opened(*, routes: dict[str, Callable[[Route], None]] | None = None, **options) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        page = browser.new_context(**options).new_page()
        seen = Visit(page, server)
        visits.append(seen)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda said: said.type in ("error", "warning") and seen.complaints.append(said.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        for pattern, answer in (routes or {}).items():
            page.route(pattern, answer)
        page.goto(server)
        return seen

    yield opened
    for seen in visits:
        seen.page.context.close()
        assert not [text for text in seen.complaints if FAILED_LOAD not in text]
        assert {urlsplit(url).netloc for url in seen.requests if not url.startswith(("blob:", "data:"))} == {
            urlsplit(server).netloc
        }


@pytest.fixture
def tab(visit: Visitor) -> Visit:
    opened = visit()
    expect(opened.page.locator("#served")).to_contain_text("tiny, version 1")
    return opened


def changed(**parts) -> Callable[[Route], None]:
    """A route that passes the service's answer on with `parts` in it, those of the explanation in the explanation."""

    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        body["explanation"] |= parts.get("explanation", {})
        route.fulfill(response=response, json=body | {k: v for k, v in parts.items() if k != "explanation"})

    return answer


def without(url: str, *names: str) -> str:
    """`url` without the parameters that a service under test doesn't take."""
    address = httpx.URL(url)
    for name in names:
        address = address.copy_remove_param(name)
    return str(address)


def described(*names: str) -> Callable[[Route], None]:
    """A route under which `/explain` is described with more parameters."""

    def answer(route: Route) -> None:
        response = route.fetch()
        body = response.json()
        body["paths"]["/explain"]["post"]["parameters"] += [{"name": name, "in": "query"} for name in names]
        route.fulfill(response=response, json=body)

    return answer


def test_a_film_is_answered(tab):
    """Label, bars and picture are the service's; nothing loaded failed."""
    tab.explained()
    answer = httpx.post(f"{tab.url}/explain", content=FILM).json()
    expect(tab.page.locator("#label")).to_have_text(answer["label"])
    expect(tab.page.locator("#probability")).to_have_text(f"{answer['probability'] * 100:.1f} %")
    ranked = sorted(answer["probabilities"], key=answer["probabilities"].get, reverse=True)
    assert tab.page.locator("#bars .name").all_inner_texts() == ranked
    expect(tab.page.locator("#notice")).to_contain_text("Research use only")
    expect(tab.page.locator("#intended")).to_have_text(answer["notice"])
    taken = httpx.get(f"{tab.url}/openapi.json").json()["paths"]["/explain"]["post"]["parameters"]
    for name in ("counterfactual", "all_classes", "faithfulness"):
        assert tab.page.locator(f"#{name}").is_visible() == any(parameter["name"] == name for parameter in taken)
    assert tab.complaints == []


@pytest.mark.parametrize(("alpha", "colormap"), [("0.5", "jet"), ("0.8", "viridis"), ("1", "gray")])
def test_the_canvas_is_the_servers_overlay(tab, alpha, colormap):
    """Pixel by pixel, within one step of 255."""
    tab.explained()
    tab.page.locator("#colormap").select_option(colormap)
    tab.page.locator("#alpha").fill(alpha)
    style = {"alpha": alpha, "colormap": colormap}
    picture = httpx.post(f"{tab.url}/explain", params=style, content=FILM, headers={"accept": "image/png"})
    difference = np.abs(tab.pixels().astype(int) - decoded(picture.content).astype(int))
    assert difference.max() <= 1


def test_opacity_and_colours_act_without_a_request(tab):
    """The pixels change; the network rests."""
    tab.explained()
    asked, shown = len(tab.requests), [tab.pixels()]
    tab.page.locator("#alpha").focus()
    tab.page.keyboard.press("ArrowRight")
    expect(tab.page.locator("#strength")).to_have_text("51 %")
    shown.append(tab.pixels())
    tab.page.locator("#colormap").select_option("inferno")
    shown.append(tab.pixels())
    tab.page.locator("#bare").click()
    shown.append(tab.pixels())
    assert all((before != after).any() for before, after in pairwise(shown))
    assert (shown[-1] == decoded(FILM)[..., None]).all()
    assert len(tab.requests) == asked


def test_another_class_against_a_third(tab):
    """The question goes to the service; what is drawn is its answer."""
    tab.explained()
    for name, value in (("class", "COVID-19"), ("against", "NORMAL")):
        with tab.page.expect_response("**/explain?*"):
            tab.page.locator(f"#{name}").select_option(value)
    tab.settle()
    assert tab.asked()[-1] == {"class": "COVID-19", "against": "NORMAL", "alpha": "0", "format": "jpeg"}
    question = {"class": "COVID-19", "against": "NORMAL"}
    picture = httpx.post(f"{tab.url}/explain", params=question, content=FILM, headers={"accept": "image/png"})
    assert np.abs(tab.pixels().astype(int) - decoded(picture.content).astype(int)).max() <= 1
    assert "COVID-19" not in tab.page.locator("#against option").all_inner_texts()


def test_the_curl_line_asks_the_same(tab):
    """A quote in a file's name stays in the name."""
    tab.explained(name="it's.png")
    tab.page.locator("#class").select_option("COVID-19")
    tab.settle()
    tab.page.locator("#alpha").fill("0.3")
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.page.get_by_role("button", name="Copy").click()
    expect(tab.page.locator("#copy")).to_have_text("Copied")
    line = tab.page.evaluate("navigator.clipboard.readText()")
    assert line == tab.page.locator("#curl").inner_text()
    assert f"'{tab.url}/explain?class=COVID-19&alpha=0.3'" in line
    assert r"--data-binary '@it'\''s.png'" in line


def test_the_overlay_can_be_taken_away(tab):
    """The server's own PNG, with the strength and the colours that are set."""
    tab.explained()
    tab.page.locator("#alpha").fill("0.7")
    with tab.page.expect_download() as started:
        tab.page.locator("#download").click()
    assert started.value.suggested_filename.startswith("film-")
    taken = decoded(Path(started.value.path()).read_bytes())
    assert np.abs(taken.astype(int) - tab.pixels().astype(int)).max() <= 1


def test_a_film_is_dropped(tab):
    """A real drop event with a file."""
    transfer = tab.page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(bytes)], "dropped.png"));
            return transfer;
        }""",
        list(FILM),
    )
    tab.page.dispatch_event("#well", "drop", {"dataTransfer": transfer})
    expect(tab.page.locator("#about")).to_have_text("dropped.png, 90 × 120")


def test_a_film_is_pasted(tab):
    """From the clipboard, anywhere on the page."""
    tab.page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([Uint8Array.from(bytes)], "pasted.png"));
            document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(FILM),
    )
    expect(tab.page.locator("#about")).to_have_text("pasted.png, 90 × 120")


def test_the_sample_needs_one_press(tab):
    """Without a film of one's own."""
    tab.page.get_by_role("button", name="Try the sample").click()
    expect(tab.page.locator("#about")).to_have_text("sample.jpg, 753 × 800")


def test_a_film_that_no_browser_can_show(tab):
    """TIFF: the server reads it, so it is there like any other."""
    tab.explained(encoded(noise(120, 90), "TIFF"), "film.tiff")
    tab.page.locator("#alpha").fill("0")
    assert (tab.pixels() == decoded(FILM)[..., None]).all()


@pytest.mark.parametrize(
    ("data", "title", "detail"),
    [
        (b"hello", "not a picture that can be read", "PNG"),
        (FILM[:-400], "damaged", ""),
        (b"", "did not arrive", ""),
        (b"\x89PNG" + bytes(3_000_000), "too large", "3000000"),
    ],
    ids=["text", "truncated", "empty", "too large"],
)
def test_a_bad_file_is_told_in_clear_words(tab, data, title, detail):
    """With the server's reason; the answer about the film before does not stay beside it."""
    tab.explained()
    tab.put(data, "bad.png")
    alert = tab.page.locator("#problem")
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text(detail)
    expect(alert).to_have_attribute("role", "alert")
    expect(tab.page.locator("#panel")).to_be_hidden()
    expect(tab.page.locator("#frame")).to_be_hidden()
    tab.explained(name="good.png")
    expect(alert).to_be_hidden()


def test_a_server_that_has_gone(visit):
    """Said, and another try offered; it is taken."""
    tab = visit()
    tab.settle()
    tab.page.route("**/explain?*", lambda route: route.abort())
    tab.put()
    expect(tab.page.locator("#problem")).to_contain_text("can't be reached")
    tab.page.unroute("**/explain?*")
    tab.page.get_by_role("button", name="Try again").click()
    expect(tab.page.locator("#about")).to_contain_text("film.png")


def test_a_question_that_was_overtaken_is_called_off(tab):
    """The later one is answered, whichever comes back first."""
    held = []

    def hold(route: Route) -> None:
        held.append(route)

    tab.page.route("**/explain?*", hold, times=1)
    tab.put(name="first.png")
    expect(tab.page.locator("#main")).to_have_attribute("aria-busy", "true")
    with tab.page.expect_event("requestfailed", lambda request: "/explain" in request.url):
        tab.put(name="second.png")
    expect(tab.page.locator("#about")).to_contain_text("second.png")
    tab.settle()
    assert len(held) == 1


def test_an_old_answer_is_dimmed_while_a_new_film_is_read(tab):
    """And the new one is said to be read; a later question about the same film dims nothing."""
    held = []

    def hold(route: Route) -> None:
        held.append(route)

    tab.explained()
    dimmed = tab.page.locator("#main.stale")
    tab.page.route("**/explain?*", hold, times=1)
    tab.put(name="second.png")
    expect(dimmed).to_be_attached()
    expect(tab.page.get_by_role("status")).to_have_text("Reading second.png")
    tab.page.wait_for_function("() => document.getElementById('progress').checkVisibility()")
    held[0].continue_()
    expect(dimmed).not_to_be_attached()
    tab.page.route("**/explain?*", hold, times=1)
    tab.page.locator("#class").select_option("COVID-19")
    expect(tab.page.locator("#main")).to_have_attribute("aria-busy", "true")
    expect(dimmed).not_to_be_attached()
    held[1].continue_()
    tab.settle()


def test_a_film_of_many_frames_asks_for_one(visit):
    """Once the service has said so; the number goes with the next question."""

    def framed(route: Route) -> None:
        url = route.request.url
        if "frame=2" in url:
            route.fulfill(response=route.fetch(url=without(url, "frame")))
        else:
            problem = {"type": "urn:lightbox:problem:Question", "status": 422, "detail": "it has 3 frames; say frame=N"}
            route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem))

    tab = visit(routes={"**/openapi.json": described("frame"), "**/explain?*": framed})
    tab.put()
    expect(tab.page.locator("#problem")).to_contain_text("It has 3 frames")
    tab.page.get_by_label("Frame").fill("2")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#about")).to_contain_text("film.png")
    assert [asked.get("frame") for asked in tab.asked()] == [None, "2"]
    assert "frame=2" in tab.page.locator("#curl").inner_text()


def test_another_model_is_asked_about_the_same_film(visit):
    """Where there are several: its classes, its answer."""

    def listed(route: Route) -> None:
        response = route.fetch()
        other = {"name": "other", "version": 4, "versions": [4], "device": "CPU"}
        route.fulfill(response=response, json={"models": [*response.json()["models"], other]})

    def other(route: Route) -> None:
        response = route.fetch(url=route.request.url.replace("other", "tiny"))
        route.fulfill(response=response, json=response.json() | {"name": "other", "version": 4})

    def asked(route: Route) -> None:
        route.fulfill(response=route.fetch(url=without(route.request.url, "model")))

    routes = {"**/openapi.json": described("model"), "**/models": listed, "**/models/other": other}
    tab = visit(routes=routes | {"**/explain?*": asked})
    tab.explained()
    with tab.page.expect_response("**/explain?*"):
        tab.page.get_by_label("Model").select_option("other")
    expect(tab.page.locator("#served")).to_contain_text("other, version 4")
    assert [question["model"] for question in tab.asked()] == ["tiny", "other"]


def test_a_key_is_asked_for_only_where_one_is_needed(visit):
    """After a 401; it is sent from then on, and shown nowhere."""

    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame":
            route.continue_()
        else:
            problem = {"type": "about:blank", "status": 401, "detail": "send a key"}
            route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(problem))

    tab = visit(routes={"**/models": guarded, "**/models/*": guarded, "**/explain?*": guarded})
    expect(tab.page.locator("#problem")).to_contain_text("asks for a key")
    tab.page.get_by_label("Key").fill("sesame")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#served")).to_contain_text("tiny")
    expect(tab.page.locator("#unlock")).to_be_hidden()
    tab.explained()
    assert "sesame" not in tab.page.content()
    assert "Authorization: Bearer $LIGHTBOX_KEY" in tab.page.locator("#curl").inner_text()


def test_warnings_stand_above_the_picture(visit):
    """The novelty flag and whatever else the service warns of, each once, as an alert."""
    novelty = {"score": 7.9, "threshold": 1.0, "out_of_distribution": True}
    told = [{"code": "border_heat", "detail": "62 % of the heat lies at the rim"}]
    tab = visit(routes={"**/explain?*": changed(novelty=novelty, warnings=told, explanation={"empty": True})})
    tab.explained()
    alert = tab.page.locator("#warnings")
    expect(alert).to_have_attribute("role", "alert")
    expect(alert.locator("strong")).to_have_text(
        ["Unlike anything that the model was trained on", "Border heat", "No heat"]
    )
    assert alert.bounding_box()["y"] < tab.page.locator("#film").bounding_box()["y"]


def test_every_question_is_offered_and_its_answer_drawn(tab):
    """A curve with its verdict, and a map for every class that one press asks about."""
    tab.explained()
    for label in ("one scale", "Judge"):
        with tab.page.expect_response("**/explain?*"):
            tab.page.get_by_label(label).check()
        tab.settle()
    assert tab.asked()[-1].items() >= {"all_classes": "true", "faithfulness": "true"}.items()
    expect(tab.page.locator("#faithful")).to_contain_text("random maps.")
    expect(tab.page.locator("#faithful polyline")).to_have_count(4)
    with tab.page.expect_response("**/explain?*"):
        tab.page.get_by_label("against it").check()
    assert tab.asked()[-1]["counterfactual"] == "true"
    tab.settle()
    with tab.page.expect_response("**/explain?*"):
        tab.page.locator("#classes").get_by_role("button", name="COVID-19").click()
    assert tab.asked()[-1]["class"] == "COVID-19"
    expect(tab.page.locator("#class")).to_have_value("COVID-19")


def test_the_value_under_the_pointer(tab):
    """Heat and grey of the pixel that the pointer is on; the margins of a crop have no heat."""
    tab.explained()
    box = tab.page.locator("#film").bounding_box()
    readout = tab.page.locator("#readout")
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (60.5 / 120))
    expect(readout).to_contain_text(f"film {noise(120, 90)[60, 45]} · at 45, 60")
    assert 0 <= float(readout.inner_text().split()[1]) <= 1
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (2.5 / 120))
    expect(readout).to_contain_text("Not seen by the model")


def test_everything_by_keyboard(tab):
    """From the address bar to the hottest point, another class and the bare film, without a pointer."""

    def tab_to(name: str) -> None:
        for _ in range(20):
            tab.page.keyboard.press("Tab")
            if tab.page.evaluate("document.activeElement.id") == name:
                return
        pytest.fail(f"no way to #{name}")

    tab_to("sample")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#film")).to_be_focused()
    spoken = tab.page.locator("#spoken")
    expect(spoken).to_have_attribute("aria-live", "polite")
    tab.page.keyboard.press("Home")
    expect(spoken).to_contain_text("Heat 1.00")
    hottest = spoken.inner_text()
    tab.page.keyboard.press("ArrowLeft")
    expect(spoken).not_to_have_text(hottest)
    asked = len(tab.asked())
    tab_to("alpha")
    tab.page.keyboard.press("End")
    expect(tab.page.locator("#strength")).to_have_text("100 %")
    tab_to("class")
    tab.page.keyboard.press("ArrowDown")
    expect(tab.page.locator("#bars .explained .name")).to_have_text("NORMAL")
    assert len(tab.asked()) == asked + 1


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_no_width_scrolls_sideways(visit, width):
    """Nor does the longest of names."""
    tab = visit(viewport={"width": width, "height": 740})
    tab.explained(name=f"{'long' * 30}.png")
    tab.put(b"hello", f"{'long' * 30}.txt")
    expect(tab.page.locator("#problem")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_notice_stays_in_sight(visit):
    """Also on a phone, wherever the page is scrolled to."""
    tab = visit(viewport={"width": 360, "height": 640})
    tab.explained()
    tab.page.mouse.wheel(0, 5000)
    expect(tab.page.locator("footer")).to_be_in_viewport()
    expect(tab.page.locator("#notice")).to_be_in_viewport()


def test_light_and_dark(visit):
    """As the person's system has it; the film lies on black in both."""
    papers = []
    for scheme in ("light", "dark"):
        tab = visit(color_scheme=scheme)
        papers.append(tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert tab.page.evaluate("getComputedStyle(document.getElementById('well')).backgroundColor") == "rgb(8, 9, 10)"
    assert papers == ["rgb(247, 246, 243)", "rgb(18, 19, 21)"]


def test_nothing_moves_for_those_who_ask_for_rest(visit):
    """The progress stripe stands still."""
    tab = visit(reduced_motion="reduce")
    moving = "getComputedStyle(document.getElementById('progress'), '::before').animationName"
    assert tab.page.evaluate(moving) == "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_fault(visit, scheme, width):
    """Empty, answered, and with a problem and warnings."""
    novelty = {"score": 7.9, "threshold": 1.0, "out_of_distribution": True}
    routes = {"**/explain?*": changed(novelty=novelty)}
    tab = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    tab.settle()
    states = [Axe().run(tab.page)]
    tab.page.route("**/explain?*", routes["**/explain?*"])
    tab.explained()
    states.append(Axe().run(tab.page))
    tab.page.unroute("**/explain?*")
    tab.put(b"hello")
    expect(tab.page.locator("#problem")).to_be_visible()
    states.append(Axe().run(tab.page))
    assert [found.generate_report() for found in states if found.violations_count] == []


GEOMETRY = """async ([width, height, input]) => {
    const { seenRegion } = await import("/static/heat.js");
    return seenRegion(width, height, input);
}"""

DRAWN = """async ([film, values, fit, side, colours, alpha]) => {
    const { binned, blended, seenRegion, upsampled, visible } = await import("/static/heat.js");
    const bitmap = await createImageBitmap(await (await fetch(film)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const region = seenRegion(bitmap.width, bitmap.height, { width: side, height: side, fit });
    const window = visible(region, bitmap.width, bitmap.height);
    const bins = binned(upsampled(values, region, window));
    return Array.from(blended(pixels, bins, window, colours, alpha).data);
}"""


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_the_page_and_the_service_see_the_same_region(tab, fit):
    """Halves are rounded alike, too."""
    for width, height in [(90, 120), (1, 1), (7, 1000), (1000, 7), (333, 334), (45, 30), (1841, 1955)]:
        for across, down in [(224, 224), (32, 48), (5, 2)]:
            region = seen_region(width, height, across, down, fit)
            spec = {"width": across, "height": down, "fit": fit}
            drawn = tab.page.evaluate(GEOMETRY, [width, height, spec])
            assert drawn == pytest.approx({side: getattr(region, side) for side in ("left", "top", "right", "bottom")})


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(120, 90), (75, 200), (6, 5)], ids=str)
def test_the_page_and_the_service_draw_the_same(tab, fit, size):
    """Also a film that is smaller than the map."""
    height, width = size
    film, heatmap = noise(height, width, 3), np.random.default_rng(1).random((8, 8)).astype(np.float32)
    tab.page.route("**/a-film.png", lambda route: route.fulfill(body=encoded(film), content_type="image/png"))
    values = heatmap.astype(float).tolist()
    drawn = tab.page.evaluate(DRAWN, ["/a-film.png", values, fit, 32, colours("turbo").tolist(), 0.6])
    region = seen_region(width, height, 32, 32, fit)
    style = Style(alpha=0.6, colormap="turbo")
    served = render(Image.fromarray(film), heatmap, region, style, max_side=1024)
    expected = np.asarray(Image.open(io.BytesIO(served.data))).astype(int)
    difference = np.abs(np.reshape(drawn, (height, width, 4))[..., :3] - expected)
    # A heat on the edge of two bins may fall into either: sums of float32 and float64 differ there.
    assert np.quantile(difference, 0.995) <= 1
    assert difference.max() <= 8
