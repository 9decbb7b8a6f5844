"""How a film comes to the page, and what is said of one that can not be used."""

import pytest
from playwright.sync_api import expect

from tests.dicoms import dicom
from tests.page.visits import FILM
from tests.pictures import decoded, encoded, noise


def test_a_film_is_dropped(tab):
    """A real drop event with a file."""
    tab.drop(FILM, "dropped.png")
    expect(tab.page.locator("#about")).to_have_text("dropped.png, 90 × 120")


def test_a_dicom_film_is_dropped(tab):
    """Shown as its header says, and nobody's name is on the page."""
    film = dicom(noise(120, 90), PhotometricInterpretation="MONOCHROME1")
    tab.drop(film, "film.dcm")
    expect(tab.page.locator("#about")).to_have_text("film.dcm, 90 × 120")
    tab.page.locator("#alpha").fill("0")
    assert (tab.pixels() == 255 - noise(120, 90)[..., None]).all()
    assert "Musterfrau" not in tab.page.content()


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
        (b"hello", "not a supported image", "PNG"),
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
    held = tab.hold()
    tab.put(name="first.png")
    for _ in range(500):
        if held:
            break
        tab.page.wait_for_timeout(10)
    with tab.page.expect_event("requestfailed", lambda request: "/explain" in request.url):
        tab.put(name="second.png")
    expect(tab.page.locator("#about")).to_contain_text("second.png")
    tab.settle()
    assert len(held) == 1


def test_an_old_answer_is_dimmed_while_a_new_film_is_read(tab):
    """And the new one is said to be read; a later question about the same film dims nothing."""
    tab.explained()
    dimmed = tab.page.locator("#main.stale")
    held = tab.hold()
    tab.put(name="second.png")
    expect(dimmed).to_be_attached()
    expect(tab.page.get_by_role("status")).to_have_text("Reading second.png")
    tab.page.wait_for_function("() => document.getElementById('progress').checkVisibility()")
    tab.release(held)
    expect(dimmed).not_to_be_attached()
    held = tab.hold()
    tab.page.locator("#class").select_option("COVID-19")
    expect(tab.page.locator("#main")).to_have_attribute("aria-busy", "true")
    expect(dimmed).not_to_be_attached()
    tab.release(held)
    tab.settle()
