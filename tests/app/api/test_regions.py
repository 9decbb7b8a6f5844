"""A model that finds an organ, crops to it and says so: what the service makes of its box and its regions.

`models.red_organ` finds what is red, and its evidence is what is green there. Where the red and the green are is known,
because the tests put them there; so the answers are compared with the image and not with the model.
"""

import base64
import io
import json
import shutil

import numpy as np
import pydicom
import pytest
from starlette.testclient import TestClient

from app.artifact.manifest import RegionSpec, read_manifest
from app.artifact.store import seal
from app.main import create_app
from app.settings import Settings
from tests import models
from tests.dicoms import dicom
from tests.pictures import constant, decoded, encoded, noise
from tests.protocol_bodies import json_tensor, outputs_of


def serving(entry, tmp_path, **changes):
    """The service over a copy of `entry` whose manifest has other `changes`."""
    copy = shutil.copytree(entry, tmp_path / "store" / "organ" / "1")
    manifest = read_manifest(copy)
    input_changes = {name: changes.pop(name) for name in ("fit",) if name in changes}
    changes["input"] = manifest.input.model_copy(update=input_changes)
    seal(copy, manifest.model_copy(update=changes))
    return TestClient(create_app(Settings(model_store=copy.parent.parent, model="organ", faithfulness_steps=2)))


@pytest.fixture(scope="module")
def organ(entry_of):
    """The service over the model as it was exported: images are squashed to its 32 x 32 pixels."""
    entry = entry_of(models.red_organ)
    with TestClient(create_app(Settings(model_store=entry.parent.parent, model=entry.parent.name))) as client:
        yield client


def film(height=64, width=96, *, red=(16, 24, 32, 48), green=()):
    """A black image with a red rectangle (top, left, height, width) and green ones, uint8 `[height, width, 3]`."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel, boxes in ((0, [red] if red else []), (1, green)):
        for top, left, tall, wide in boxes:
            pixels[top : top + tall, left : left + wide, channel] = 255
    return pixels


SPOT = (32, 60, 8, 12)  # the third row and the fourth column of the 4 x 4 cells over the red rectangle
FILM = encoded(film(green=[SPOT]))


def explained(client, data=FILM, **parameters):
    answer = client.post("/explain", params=parameters, content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def overlay_of(client, data=FILM, accept="image/png", **parameters):
    answer = client.post("/explain", params=parameters, content=data, headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    return answer


def hottest(client, data, **parameters):
    """The centre of the heat in the overlay, as (row, column) in pixels."""
    grey = {"class": "bright", "alpha": "1", "colormap": "gray"} | parameters
    heat = decoded(overlay_of(client, data, **grey).content)[..., 1].astype(float)
    rows, columns = np.indices(heat.shape) + 0.5
    return (heat * rows).sum() / heat.sum(), (heat * columns).sum() / heat.sum()


def test_the_box_is_told_in_pixels_of_the_original(organ):
    """Where the red rectangle is; the receipt says it in shares of the network's input."""
    answer = explained(organ)
    assert answer["explanation"]["box"] == {"left": 24, "top": 16, "right": 72, "bottom": 48}
    assert answer["receipt"]["box"] == [0.25, 0.25, 0.75, 0.75]
    assert answer["warnings"] == []


@pytest.mark.parametrize("spot", [(16, 24), (16, 60), (40, 24), (40, 60), (24, 36)], ids=str)
def test_a_bright_spot_is_hot_where_it_is(organ, spot):
    """Within a quarter of a cell, wherever in the box it is, and nothing outside the box is heated."""
    row, column = spot
    pixels = film(green=[(row, column, 8, 12)])
    place = hottest(organ, encoded(pixels))
    assert place == pytest.approx((row + 4, column + 6), abs=3)
    style = {"class": "bright", "alpha": "0.7"}
    overlay = decoded(overlay_of(organ, encoded(pixels), **style).content)
    outside = np.ones(overlay.shape[:2], bool)
    outside[16:48, 24:72] = False
    assert (overlay[outside] == pixels[outside]).all()
    assert (overlay[~outside] != pixels[~outside]).any(axis=-1).all()


@pytest.mark.parametrize(
    ("fit", "size", "box"),
    [
        ("crop", (64, 96), {"left": 32, "top": 16, "right": 64, "bottom": 48}),
        ("pad", (96, 64), {"left": 8, "top": 24, "right": 40, "bottom": 72}),
    ],
)
def test_the_box_is_that_of_the_original_however_it_is_fitted(entry_of, tmp_path, fit, size, box):
    """A crop begins inside the image, and padding outside of it; the heat is at the spot all the same."""
    rectangle = (box["top"], box["left"], box["bottom"] - box["top"], box["right"] - box["left"])
    spot = (box["top"], box["left"], rectangle[2] // 4, rectangle[3] // 4)
    data = encoded(film(*size, red=rectangle, green=[spot]))
    with serving(entry_of(models.red_organ), tmp_path, fit=fit) as client:
        found = explained(client, data, **{"class": "bright"})
        assert found["explanation"]["box"] == pytest.approx(box, abs=3)
        place = hottest(client, data)
    assert place == pytest.approx((spot[0] + spot[2] / 2, spot[1] + spot[3] / 2), abs=4)


def test_the_open_inference_protocol_has_the_share_of_heat(organ):
    """As an output that only such a model advertises; −1 stands for no share."""
    images = (FILM, encoded(film(red=(), green=[SPOT])))
    path = f"/v2/models/{models.red_organ.__name__}:explain"
    body = {"inputs": [json_tensor(*images)], "parameters": {"class": "bright"}}
    shares = outputs_of(organ.post(f"{path}/infer", json=body))["region_share"]
    assert shares.tolist() == [pytest.approx(explained(organ, **{"class": "bright"})["region"]["share_of_heat"]), -1]
    assert [each["name"] for each in organ.get(path).json()["outputs"]][-1] == "region_share"


def test_no_organ_is_the_whole_image_and_a_warning(organ):
    """Of `/predict` as of `/explain`, and counted; the heat is where the spot is all the same."""
    data = encoded(film(red=(), green=[SPOT]))
    answer = explained(organ, data, **{"class": "bright"})
    assert answer["explanation"]["box"] == {"left": 0, "top": 0, "right": 96, "bottom": 64}
    assert answer["region"] == {"name": "organ", "found": False, "share_of_heat": None, "share_of_image": 0}
    assert [warning["code"] for warning in answer["warnings"]] == ["region_not_found"]
    assert "the organ" in answer["warnings"][0]["detail"]
    predicted = organ.post("/predict", content=data).json()
    assert [warning["code"] for warning in predicted["warnings"]] == ["region_not_found"]
    assert organ.post("/predict", content=FILM).json()["warnings"] == []
    counted = [line for line in organ.get("/metrics").text.splitlines() if line.startswith("lightbox_regions_not")]
    assert float(counted[-1].split()[-1]) >= 2
    assert hottest(organ, data) == pytest.approx((36, 66), abs=6)


def ring():
    """A red frame of 32 x 48 pixels around a hole of 16 x 24, so that four of its sixteen cells are no organ."""
    pixels = film()
    pixels[24:40, 36:60, 0] = 0
    return pixels


@pytest.mark.parametrize(
    ("green", "share"),
    [([SPOT], 1.0), ([(24, 36, 8, 12)], 0.0), ([SPOT, (24, 36, 8, 12)], 0.5), ([(24, 36, 8, 24), SPOT], 1 / 3)],
)
def test_the_share_of_heat_in_the_organ(organ, green, share):
    """One spot in the frame, one in its hole, both, and two in the hole beside one in the frame."""
    pixels = ring() | film(red=(), green=green)
    region = explained(organ, encoded(pixels), **{"class": "bright"})["region"]
    assert region.pop("share_of_heat") == pytest.approx(share, abs=0.06)  # pixels are blurred where they are resized
    assert region.pop("share_of_image") == pytest.approx((32 * 48 - 16 * 24) / (64 * 96), abs=0.01)
    assert region == {"name": "organ", "found": True}


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_a_gate_does_not_answer_for_the_model(entry_of, tmp_path, method):
    """One spot in the frame and one in its hole, which the head's gate shuts: the network looked at both.

    Methods that use gradients cell by cell show only the first, so that the share of their own map would be all.
    """
    region = RegionSpec(name="organ", gated=True)
    data = encoded(ring() | film(red=(), green=[SPOT, (24, 36, 8, 12)]))
    with serving(entry_of(models.gated_organ), tmp_path, region=region) as client:
        answer = explained(client, data, **{"class": "bright", "method": method})
    values = np.array(answer["explanation"]["heatmap"]["values"])
    assert (values[1, 1] > 0.1) == (method == "gradcam")
    assert answer["region"]["share_of_heat"] == pytest.approx(0.5, abs=0.06)


def test_an_empty_map_has_no_share(organ):
    """There is nothing to share."""
    answer = explained(organ, encoded(film()), **{"class": "bright"})
    assert answer["explanation"]["empty"]
    assert answer["region"]["found"]
    assert answer["region"]["share_of_heat"] is None


def test_heat_outside_the_organ_is_a_warning(entry_of, tmp_path):
    """Below the manifest's threshold for the method; another method without one has no warning."""
    region = read_manifest(entry_of(models.red_organ)).region.model_copy(update={"min_share_of_heat": {"gradcam": 0.7}})
    inside, outside = (encoded(ring() | film(red=(), green=[spot])) for spot in (SPOT, (24, 36, 8, 12)))
    with serving(entry_of(models.red_organ), tmp_path, region=region) as client:
        asked = [(inside, "gradcam"), (outside, "gradcam"), (outside, "layercam")]
        answers = [explained(client, data, **{"class": "bright", "method": method}) for data, method in asked]
    codes = [[warning["code"] for warning in answer["warnings"]] for answer in answers]
    assert codes == [[], ["heat_outside_region"], []]
    assert "is in the organ; with gradcam it is usually at least 70%" in answers[1]["warnings"][0]["detail"]


def test_an_organ_too_small_to_be_one_is_not_found(entry_of, tmp_path):
    """By the manifest's share of the image: the rectangle is a quarter of it."""
    region = read_manifest(entry_of(models.red_organ)).region.model_copy(update={"min_share_of_image": 0.3})
    with serving(entry_of(models.red_organ), tmp_path, region=region) as client:
        answer = explained(client)
    assert (answer["region"]["found"], answer["region"]["share_of_image"]) == (False, pytest.approx(0.25))
    assert answer["warnings"][0]["detail"] == "the model did not find the organ in the image"


def picture_in(answer):
    """The picture that an answer is, or that is in its JSON."""
    if answer.headers["content-type"] != "application/json":
        return decoded(answer.content)
    return decoded(base64.b64decode(answer.json()["explanation"]["overlay"]["data"]))


def is_line(pixels, row, column):
    return (pixels[row, column] == 255).all()


@pytest.mark.parametrize("accept", ["image/png", "image/webp", "image/jpeg", "application/json"])
def test_the_outline_is_drawn_where_the_organ_is(organ, accept):
    """A white line along the red rectangle, in every format; the rest of the overlay is as it was."""
    answer, plain = (picture_in(overlay_of(organ, accept=accept, outline=wanted)) for wanted in ("true", "false"))
    exact = accept in ("image/png", "application/json")
    for row, column in ((16, 50), (47, 50), (30, 24), (30, 71)):
        assert (answer[row, column] >= (255 if exact else 170)).all()
    for row, column in ((15, 50), (48, 50), (30, 23), (30, 72)):
        assert (answer[row, column] <= (0 if exact else 90)).all()
    if exact:
        inner = np.zeros(answer.shape[:2], bool)
        inner[17:47, 25:71] = True
        inner[:15] = inner[49:] = True
        assert (answer[inner] == plain[inner]).all()


def test_the_outline_follows_the_organ_and_not_the_box(organ):
    """Of a frame, its hole has a border as well."""
    pixels = decoded(overlay_of(organ, encoded(ring()), outline="true", alpha="0").content)
    inner_border = pixels[17:47, 49]
    assert (inner_border == 255).all(axis=-1).any()
    assert (pixels[32, 38:58] == 0).all(axis=-1).any()


def test_the_outline_of_a_dicom_film_is_in_its_secondary_capture(organ):
    """Pixel by pixel that of the PNG, above the notice."""
    grey = film()[..., 0]
    picture = decoded(overlay_of(organ, dicom(grey), outline="true").content)
    filed = overlay_of(organ, dicom(grey), accept="application/dicom", outline="true")
    captured = pydicom.dcmread(io.BytesIO(filed.content)).pixel_array
    assert is_line(captured, 16, 50)
    assert (captured[:64] == picture).all()
    assert not is_line(decoded(overlay_of(organ, dicom(grey)).content), 16, 50)


def test_clients_that_draw_get_the_organ_on_the_grid(organ):
    """Only where they ask for its outline; the picture need not be drawn."""
    asked = explained(organ, encoded(ring()), outline="true", overlay="false")["explanation"]
    assert asked["overlay"] is None
    assert (asked["outline"]["height"], asked["outline"]["width"]) == (4, 4)
    expected = np.ones((4, 4))
    expected[1:3, 1:3] = 0
    np.testing.assert_allclose(asked["outline"]["values"], expected, atol=0.01)
    assert explained(organ)["explanation"]["outline"] is None


def test_an_outline_that_a_model_does_not_have_is_refused(real_client):
    """422, with what to do; nor has its answer a box or a region."""
    data = encoded(noise(40, 60))
    refused = real_client.post("/explain?outline=true", content=data)
    assert refused.status_code == 422
    assert refused.json()["detail"] == (
        "'outline' draws the border of an organ, and this model locates none; leave it out"
    )
    answer = explained(real_client, data)
    assert (answer["region"], answer["explanation"]["box"], answer["receipt"]["region"]) == (None, None, None)
    assert explained(real_client, data, outline="false")["explanation"]["outline"] is None


def test_files_carry_the_box_and_the_region_in_headers(organ, real_client):
    """Who takes the heatmap as numbers must know where it lies; a model without them has no such headers."""
    headers = overlay_of(organ, accept="application/x-npy").headers
    answer = explained(organ)
    assert json.loads(headers["x-lightbox-box"]) == answer["explanation"]["box"]
    assert json.loads(headers["x-lightbox-region"]) == answer["region"]
    plain = overlay_of(real_client, encoded(constant(99))).headers
    assert not {"x-lightbox-box", "x-lightbox-region"} & plain.keys()


def test_the_border_is_that_of_the_image_and_not_of_the_box(entry_of, tmp_path):
    """Heat at the edge of a box inside the image is none at its border; of a box at the image's edge it is."""
    manifest = read_manifest(entry_of(models.red_organ))
    cautions = {"quantile": 0.95, "films": 9, "low_margin": None}
    limits = {"gradcam": {"border_heat": 0.5, "diffuse_heat": 1.0}}
    changed = type(manifest).model_validate(manifest.model_dump() | {"cautions": cautions | {"heat": limits}})
    inside = film(green=[(16, 24, 8, 12)])
    at_the_edge = film(red=(0, 0, 32, 48), green=[(0, 0, 8, 12)])
    with serving(entry_of(models.red_organ), tmp_path, cautions=changed.cautions) as client:
        found = [explained(client, encoded(one), **{"class": "bright"})["warnings"] for one in (inside, at_the_edge)]
    assert [[warning["code"] for warning in one] for one in found] == [[], ["border_heat"]]


def test_faithfulness_hides_cells_inside_the_box(entry_of, tmp_path):
    """Hiding the hotter half of the cells hides the spot, which takes all of its evidence."""
    with serving(entry_of(models.red_organ), tmp_path) as client:
        judged = explained(client, faithfulness="true", **{"class": "bright"})["explanation"]["faithfulness"]
    whole, half, hidden = judged["deletion"]["probabilities"]
    assert judged["blur_sigma"] == 4.0  # a cell of 4 x 4 input pixels
    assert whole > half + 0.02
    assert half == pytest.approx(hidden, abs=0.02)


def test_the_manifest_is_told(organ):
    """With the name and thresholds of the region."""
    facts = organ.get(f"/models/{organ.get('/models').json()['models'][0]['name']}").json()
    assert facts["region"] == {"name": "organ", "gated": False, "min_share_of_image": 0, "min_share_of_heat": {}}
