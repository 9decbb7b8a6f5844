"""What the page asks the service, and what it shows of the answers."""

import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from app.main import create_app
from app.settings import Settings
from tests.dicoms import dicom, frames
from tests.doubles import BrightnessRuntime, manifest
from tests.page.visits import FILM, KEY, assert_alike
from tests.pictures import constant, decoded, encoded, noise
from tests.servers import in_thread, until


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
    assert tab.complaints == []


def test_another_class_against_a_third(tab):
    """The question goes to the service; what is drawn is its answer."""
    tab.explained()
    for name, value in (("class", "COVID-19"), ("against", "NORMAL")):
        with tab.page.expect_response("**/explain?*"):
            tab.page.locator(f"#{name}").select_option(value)
    tab.settle()
    assert tab.asked()[-1] == {
        "class": "COVID-19",
        "against": "NORMAL",
        "model": "tiny",
        "overlay": "false",
    }
    question = {"class": "COVID-19", "against": "NORMAL"}
    picture = httpx.post(f"{tab.url}/explain", params=question, content=FILM, headers={"accept": "image/png"})
    assert_alike(tab.pixels(), decoded(picture.content))
    assert "COVID-19" not in tab.page.locator("#against option").all_inner_texts()


def test_every_question_is_offered_and_its_answer_drawn(tab):
    """A curve with its verdict, and a map for every class that one press asks about."""
    tab.explained()
    for label in ("one scale", "faithfulness"):
        with tab.page.expect_response("**/explain?*"):
            tab.page.get_by_label(label).check()
        tab.settle()
    assert tab.asked()[-1].items() >= {"all_classes": "true", "faithfulness": "true"}.items()
    expect(tab.page.locator("#faithful")).to_contain_text("random maps.")
    dashes = "lines => lines.map(line => getComputedStyle(line).strokeDasharray !== 'none')"
    for curve, dashed in (("polyline.random", [True, True]), ("polyline:not(.random)", [False, False])):
        assert tab.page.locator(f"#faithful {curve}").evaluate_all(dashes) == dashed
    assert "-o answer.json" in tab.page.locator("#curl").inner_text()
    with tab.page.expect_response("**/explain?*"):
        tab.page.get_by_label("against it").check()
    assert tab.asked()[-1]["counterfactual"] == "true"
    tab.settle()
    with tab.page.expect_response("**/explain?*"):
        tab.page.locator("#classes").get_by_role("button", name="COVID-19").click()
    assert tab.asked()[-1]["class"] == "COVID-19"
    expect(tab.page.locator("#class")).to_have_value("COVID-19")


def test_another_model_is_asked_about_the_same_film(tab):
    """Its classes, its answer."""
    tab.explained()
    with tab.page.expect_response("**/explain?*"):
        tab.page.get_by_label("Model").select_option("planted")
    expect(tab.page.locator("#served")).to_contain_text("planted, version 4")
    tab.settle()
    assert [question["model"] for question in tab.asked()] == ["tiny", "planted"]
    assert tab.page.locator("#class option").all_inner_texts()[1:] == ["dark", "bright"]
    expect(tab.page.get_by_label("Version")).to_be_hidden()


def test_another_version_is_asked_about_the_same_film(tab):
    """The served one is named; an older one gives its own answer, also to the curl line."""
    tab.explained()
    version = tab.page.get_by_label("Version")
    assert version.locator("option").all_inner_texts() == ["2 (served)", "1"]
    with tab.page.expect_response("**/explain?*"):
        version.select_option("1")
    expect(tab.page.locator("#served")).to_contain_text("tiny, version 1")
    tab.settle()
    assert [question.get("version") for question in tab.asked()] == [None, "1"]
    answer = httpx.post(f"{tab.url}/explain", params={"version": 1}, content=FILM).json()
    expect(tab.page.locator("#probability")).to_have_text(f"{answer['probability'] * 100:.1f} %")
    assert "version=1" in tab.page.locator("#curl").inner_text()


def test_a_model_that_can_not_be_asked_leaves_a_page_that_works(tab):
    """The old answer is dimmed, and still to be looked at, but not to be taken away."""
    tab.explained()
    tab.page.route("**/models/planted*", lambda route: route.abort())
    tab.page.get_by_label("Model").select_option("planted")
    expect(tab.page.locator("#problem")).to_contain_text("can't be reached")
    expect(tab.page.locator("#main.stale")).to_be_attached()
    tab.page.locator("#alpha").fill("0.2")
    expect(tab.page.locator("#strength")).to_have_text("20 %")
    expect(tab.page.locator("#download")).to_be_disabled()
    tab.page.unroute("**/models/planted*")
    tab.page.get_by_role("button", name="Try again").click()
    expect(tab.page.locator("#served")).to_contain_text("planted, version 4")
    tab.settle()
    expect(tab.page.locator("#download")).to_be_enabled()


def test_a_version_that_takes_over_is_named_with_its_answer(visit, served_entry, tmp_path):
    """The page learns of the new version with its first answer."""
    shutil.copytree(served_entry.parent / "1", tmp_path / "tiny" / "1")
    with in_thread(create_app(Settings(model_store=tmp_path, model="tiny", poll_interval_s=0.2))) as url:
        tab = visit(url)
        tab.explained()
        expect(tab.page.locator("#served")).to_contain_text("tiny, version 1")
        shutil.copytree(served_entry, tmp_path / "tiny" / "2")
        until(lambda: httpx.get(f"{url}/models/tiny").json()["version"] == 2)
        tab.page.locator("#class").select_option("COVID-19")
        expect(tab.page.locator("#served")).to_contain_text("tiny, version 2")
        tab.settle()


def test_the_receipt_is_the_services(tab):
    """All that decides the numbers, for whoever opens it."""
    tab.explained()
    tab.page.get_by_text("Receipt").click()
    told = tab.page.locator("#receipt")
    receipt = httpx.post(f"{tab.url}/explain", content=FILM).json()["receipt"]
    for name in ("image_sha256", "model_sha256", "layer", "tensorflow"):
        expect(told).to_contain_text(receipt[name])


def test_a_film_of_many_frames_asks_for_one(tab):
    """Once the service has said so; the number goes with the next question."""
    shown = [noise(120, 90, seed=seed) for seed in range(3)]
    tab.put(frames(shown), "run.dcm")
    expect(tab.page.locator("#problem")).to_contain_text("3 frames")
    tab.page.get_by_label("Frame").fill("2")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#about")).to_contain_text("run.dcm")
    assert [asked.get("frame") for asked in tab.asked()] == [None, "2"]
    assert "frame=2" in tab.page.locator("#curl").inner_text()
    tab.page.locator("#alpha").fill("0")
    assert (tab.pixels() == shown[1][..., None]).all()


def test_warnings_stand_above_the_picture(visit, shipped_server):
    """The novelty flag and whatever else the service warns of, each once, as an alert."""
    tab = visit(shipped_server)
    tab.explained(dicom(noise(120, 90), BodyPartExamined="LEG"), "leg.dcm")
    alert = tab.page.locator("#warnings")
    expect(alert).to_have_attribute("role", "alert")
    titles = alert.locator("strong").all_inner_texts()
    assert titles[0] == "Unlike anything that the model was trained on"
    assert len(titles) == len(set(titles)) > 1
    expect(alert).to_contain_text("another body part than the model expects: CHEST")
    assert alert.bounding_box()["y"] < tab.page.locator("#image").bounding_box()["y"]


def test_a_map_without_heat_is_said_to_be_empty(tab):
    """Not drawn as if the coldest colour meant something."""
    tab.explained(encoded(constant(0, 120, 90)))
    with tab.page.expect_response("**/explain?*"):
        tab.page.get_by_label("Model").select_option("planted")
    expect(tab.page.locator("#warnings")).to_contain_text("No heat")


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
    assert f"'{tab.url}/explain?class=COVID-19&model=tiny&alpha=0.3'" in line
    assert "-o overlay.png" in line
    assert r"--data-binary '@it'\''s.png'" in line


def test_the_overlay_can_be_taken_away(tab):
    """The server's own PNG, with the strength and the colours that are set."""
    tab.explained()
    tab.page.locator("#alpha").fill("0.7")
    with tab.page.expect_download() as started:
        tab.page.locator("#download").click()
    assert started.value.suggested_filename.startswith("film-")
    taken = decoded(Path(started.value.path()).read_bytes())
    assert_alike(tab.pixels(), taken)


def test_a_key_is_asked_for_only_where_one_is_needed(visit, locked_server):
    """After a 401; it is sent from then on, and shown nowhere."""
    tab = visit(locked_server)
    expect(tab.page.locator("#problem")).to_contain_text("requires an API key")
    tab.page.get_by_label("Key").fill(KEY)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#served")).to_contain_text("double")
    expect(tab.page.locator("#unlock")).to_be_hidden()
    tab.explained()
    assert KEY not in tab.page.content()
    assert "Authorization: Bearer $LIGHTBOX_KEY" in tab.page.locator("#curl").inner_text()


@pytest.mark.parametrize(
    ("thresholds", "label", "found"),
    [((0.05, 0.5, 0.5), "dark, middle", ["dark (found)", "middle (found)"]), ((0.9, 0.9, 0.9), "Nothing found", [])],
)
def test_a_multi_label_model_may_find_several_classes_or_none(visit, thresholds, label, found):
    """Those at or above their thresholds are marked, and the page says that the probabilities don't add up."""
    facts = manifest().model_copy(update={"task": "multi_label", "thresholds": thresholds})
    with in_thread(create_app(Settings(), BrightnessRuntime(facts))) as url:
        tab = visit(url)
        tab.explained()
        expect(tab.page.locator("#label")).to_have_text(label)
        expect(tab.page.locator("#alone")).to_be_visible()
        assert sorted(tab.page.locator("#bars .found .name").all_text_contents()) == found


def test_a_single_label_model_has_one_answer(tab):
    """Its probabilities add up, and nothing else is said."""
    tab.explained()
    expect(tab.page.locator("#alone")).to_be_hidden()
    assert tab.page.locator("#bars .found").count() == 0
