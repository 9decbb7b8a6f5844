"""The picture that the page draws is the one that the service draws."""

from itertools import pairwise

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from app.imaging.geometry import Region, seen_region
from app.imaging.outline import draw_outline
from app.imaging.overlay import Style, colours, draw_overlay
from tests.page.visits import FILM, assert_alike
from tests.pictures import decoded, encoded, noise

GEOMETRY = """async ([width, height, input]) => {
    const { seenRegion } = await import("/static/heat.js");
    return seenRegion(width, height, input);
}"""

PART = """async ([region, box]) => {
    const { part } = await import("/static/heat.js");
    return part(region, box);
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


OUTLINED = """async ([size, values, region]) => {
    const { outlined } = await import("/static/heat.js");
    const [width, height] = size;
    const grey = new ImageData(new Uint8ClampedArray(4 * width * height).fill(90), width, height);
    return Array.from(outlined(grey, values, region).data);
}"""


@pytest.mark.parametrize(("alpha", "colormap"), [("0.5", "jet"), ("0.8", "viridis"), ("1", "gray")])
def test_the_canvas_is_the_servers_overlay(tab, alpha, colormap):
    """Pixel by pixel, within one step of 255."""
    tab.explained()
    tab.page.locator("#colormap").select_option(colormap)
    tab.page.locator("#alpha").fill(alpha)
    style = {"alpha": alpha, "colormap": colormap}
    picture = httpx.post(f"{tab.url}/explain", params=style, content=FILM, headers={"accept": "image/png"})
    assert_alike(tab.pixels(), decoded(picture.content))


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


def test_the_value_under_the_pointer(tab):
    """Heat and grey of the pixel that the pointer is on; the margins of a crop have no heat."""
    tab.explained()
    box = tab.page.locator("#image").bounding_box()
    readout = tab.page.locator("#readout")
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (60.5 / 120))
    expect(readout).to_contain_text(f"image {noise(120, 90)[60, 45]} · at 45, 60")
    assert 0 <= float(readout.inner_text().split()[1]) <= 1
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (2.5 / 120))
    expect(readout).to_contain_text("Not seen by the model")


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_the_page_and_the_service_see_the_same_region(tab, fit):
    """Halves are rounded alike, too."""
    for width, height in [(90, 120), (1, 1), (7, 1000), (1000, 7), (333, 334), (45, 30), (1841, 1955)]:
        for across, down in [(224, 224), (32, 48), (5, 2)]:
            region = seen_region(width, height, across, down, fit)
            spec = {"width": across, "height": down, "fit": fit}
            drawn = tab.page.evaluate(GEOMETRY, [width, height, spec])
            assert drawn == pytest.approx({side: getattr(region, side) for side in ("left", "top", "right", "bottom")})


def test_the_page_and_the_service_place_a_network_that_crops_alike(tab):
    """Shares of a region, also outside of it."""
    region, box = Region(10, -20, 50, 100), (0.25, -0.5, 0.75, 1.25)
    sides = ("left", "top", "right", "bottom")
    drawn = tab.page.evaluate(PART, [{side: getattr(region, side) for side in sides}, box])
    assert drawn == pytest.approx({side: getattr(region.part(box), side) for side in sides})


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
    served = draw_overlay(Image.fromarray(film), heatmap, region, style, max_side=1024)
    assert_alike(np.reshape(drawn, (height, width, 4))[..., :3], np.asarray(served))


@pytest.mark.parametrize("size", [(90, 120), (1100, 40), (7, 9)], ids=str)
@pytest.mark.parametrize("region", [Region(0, 0, 7, 9), Region(10.3, -6.2, 71.7, 33.1)], ids=str)
def test_the_page_and_the_service_draw_the_same_outline(tab, size, region):
    """White and black lines of the same width at the same pixels, also where the cells reach beyond the picture."""
    organ = np.random.default_rng(2).random((5, 4)).astype(np.float32)
    sides = {side: getattr(region, side) for side in ("left", "top", "right", "bottom")}
    drawn = tab.page.evaluate(OUTLINED, [size, organ.astype(float).tolist(), sides])
    served = np.asarray(draw_outline(Image.new("RGB", size, (90, 90, 90)), organ, region))
    assert (served == 255).any() == region.meets(*size)
    np.testing.assert_array_equal(np.reshape(drawn, (size[1], size[0], 4))[..., :3], served)
