"""Everyone reaches everything: by keyboard, on a phone, in the dark, by ear."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect


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
    expect(tab.page.locator("#image")).to_be_focused()
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
def test_axe_finds_no_fault(visit, shipped_server, scheme, width):
    """Empty, answered, and with a problem and warnings."""
    tab = visit(shipped_server, color_scheme=scheme, viewport={"width": width, "height": 800})
    tab.settle()
    states = [Axe().run(tab.page)]
    tab.explained()
    expect(tab.page.locator("#warnings")).to_contain_text("Unlike anything")
    states.append(Axe().run(tab.page))
    tab.put(b"hello")
    expect(tab.page.locator("#problem")).to_be_visible()
    states.append(Axe().run(tab.page))
    assert [found.generate_report() for found in states if found.violations_count] == []
