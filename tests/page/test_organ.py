"""The page over a model that finds an organ, crops to it and knows its outline."""

import shutil

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from app.main import create_app
from app.settings import Settings
from tests import models
from tests.page.visits import assert_alike
from tests.pictures import decoded, encoded
from tests.servers import in_thread

ORGAN = np.zeros((120, 90, 3), np.uint8)
ORGAN[30:90, 15:60, 0] = 255
ORGAN[45:60, 30:45, 1] = 255
ORGAN = encoded(ORGAN)


@pytest.fixture(scope="module")
def organ_server(entry_of, tmp_path_factory):
    """A server of a model that locates an organ, and of one that doesn't."""
    store = tmp_path_factory.mktemp("organ")
    for build, name in ((models.red_organ, "organ"), (models.gap_linear, "plain")):
        shutil.copytree(entry_of(build), store / name / "1")
    with in_thread(create_app(Settings(model_store=store, model="organ"))) as url:
        yield url


@pytest.fixture
def organ_tab(visit, organ_server):
    return visit(organ_server)


def served(url, **parameters):
    answer = httpx.post(f"{url}/explain", params=parameters, content=ORGAN, headers={"accept": "image/png"})
    return decoded(answer.content)


def test_the_heat_is_drawn_in_the_box_of_this_image(organ_tab):
    """As the service draws it, and the answer says how much of it is in the organ."""
    organ_tab.explained(ORGAN)
    assert_alike(organ_tab.pixels(), served(organ_tab.url))
    expect(organ_tab.page.locator("#organ")).to_contain_text("of the heat is in the organ")
    expect(organ_tab.page.locator("#receipt")).to_contain_text("organ")


def test_the_outline_is_a_switch(organ_tab):
    """On, it is the service's overlay with an outline; with the image alone there is none; off, it is gone."""
    organ_tab.explained(ORGAN)
    switch = organ_tab.page.get_by_label("Outline of the organ")
    with organ_tab.page.expect_response("**/explain?*"):
        switch.check()
    organ_tab.settle()
    assert organ_tab.asked()[-1].items() >= {"outline": "true", "overlay": "false"}.items()
    assert_alike(organ_tab.pixels(), served(organ_tab.url, outline="true"))
    assert "outline=true" in organ_tab.page.locator("#curl").inner_text()
    organ_tab.page.locator("#bare").click()
    assert (organ_tab.pixels() == decoded(ORGAN)).all()
    organ_tab.page.locator("#bare").click()
    with organ_tab.page.expect_response("**/explain?*"):
        switch.uncheck()
    organ_tab.settle()
    assert_alike(organ_tab.pixels(), served(organ_tab.url))


def test_the_next_image_is_shown_without_the_outline_in_it(organ_tab):
    """The page takes the image from an overlay, which must have no outline; the page draws it."""
    organ_tab.explained(ORGAN)
    organ_tab.page.get_by_label("Outline of the organ").check()
    organ_tab.settle()
    organ_tab.explained(ORGAN, "second.png")
    assert_alike(organ_tab.pixels(), served(organ_tab.url, outline="true"))
    organ_tab.page.locator("#bare").click()
    assert (organ_tab.pixels() == decoded(ORGAN)).all()


def test_a_model_without_an_organ_offers_no_outline(organ_tab):
    """The switch is gone with the organ, and is not asked for any more."""
    organ_tab.explained(ORGAN)
    organ_tab.page.get_by_label("Outline of the organ").check()
    organ_tab.settle()
    with organ_tab.page.expect_response("**/explain?*"):
        organ_tab.page.get_by_label("Model").select_option("plain")
    organ_tab.settle()
    assert "outline" not in organ_tab.asked()[-1]
    expect(organ_tab.page.locator("#outline-field")).to_be_hidden()
    expect(organ_tab.page.locator("#organ")).to_have_text("")
    assert organ_tab.complaints == []
