"""Parameters in the query, in the form and in JSON: the same names, the same validation."""

import base64

import pytest

from app.api.parameters import parameter_names
from app.api.schemas import ExplainParameters
from tests.pictures import constant, encoded

IMAGE = encoded(constant(255))


def ask(client, where, path="/explain", **parameters):
    """Post the image with `parameters` in the query, the form or the JSON body."""
    if where == "query":
        return client.post(path, content=IMAGE, params=parameters)
    if where == "form":
        return client.post(path, files={"file": ("x.png", IMAGE)}, data=parameters)
    return client.post(path, json={"image": base64.b64encode(IMAGE).decode(), **parameters})


PLACES = pytest.mark.parametrize("where", ["query", "form", "json"])


@PLACES
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"class": "dark"}, {"class": "dark"}),
        ({"class": "bright", "against": "dark"}, {"against": "dark"}),
        ({"method": "gradcam++"}, {"method": "gradcam++"}),
        ({"counterfactual": "true"}, {"counterfactual": True}),
        ({"overlay": "false"}, {"overlay": None}),
    ],
)
def test_a_parameter_is_heard_wherever_it_is(client, where, given, told):
    """The answer is to the question that was asked."""
    explanation = ask(client, where, **given).json()["explanation"]
    assert {name: explanation[name] for name in told} == told


@PLACES
def test_the_model_is_chosen_wherever_it_is_named(client, where):
    """Another model than the served one is not there."""
    assert ask(client, where, model="double", version=3).status_code == 200
    assert ask(client, where, model="nope").status_code == 404
    assert ask(client, where, "/predict", model="nope").status_code == 404


@PLACES
@pytest.mark.parametrize(
    ("path", "given", "reason"),
    [
        ("/explain", {"klass": "dark"}, "unknown parameter 'klass'; valid: version, model, frame, top, class, against"),
        ("/predict", {"class": "dark"}, "unknown parameter 'class'; valid: version, model, frame, top"),
        ("/explain", {"alpha": 2}, "alpha: Input should be less than or equal to 1"),
        ("/explain", {"top": "many"}, "top: Input should be a valid integer"),
        ("/explain", {"method": "guess"}, "unknown method 'guess'; valid: gradcam"),
    ],
)
def test_the_same_validation_everywhere(client, where, path, given, reason):
    """422, with what is valid."""
    answer = ask(client, where, path, **given)
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize(
    "request_of",
    [
        {"url": "/explain?class=dark&class=bright", "content": IMAGE},
        {"url": "/explain?class=dark", "files": {"file": IMAGE}, "data": {"class": "dark"}},
        {"url": "/explain", "files": {"file": IMAGE}, "data": {"class": ["dark", "bright"]}},
        {"url": "/explain?top=1", "json": {"image": base64.b64encode(IMAGE).decode(), "top": 1}},
        {"url": "/models/double?version=3&version=3"},
    ],
)
def test_a_parameter_given_twice_is_refused(client, request_of):
    """Also in two places, and also where both say the same: the list of valid ones says that each is given once."""
    url = request_of.pop("url")
    answer = client.post(url, **request_of) if request_of else client.get(url)
    assert answer.status_code == 422
    assert "given more than once" in answer.json()["detail"]
    assert "version" in answer.json()["detail"]


def test_null_in_json_is_no_parameter(client):
    """Generated clients send every field."""
    explanation = ask(client, "json", **{"class": None, "against": None, "top": None}).json()["explanation"]
    assert explanation["class"] == "bright"


@pytest.mark.parametrize("value", [["dark"], {"name": "dark"}, 7])
def test_json_of_another_type_is_refused(client, value):
    """No conversion that a person would not make."""
    assert ask(client, "json", **{"class": value}).status_code == 422


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_the_description_has_them_everywhere(client, path):
    """`/docs` shows each in the query, in the form and in JSON."""
    schema = client.get("/openapi.json").json()
    operation = schema["paths"][path]["post"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names <= set(parameter_names(ExplainParameters))
    assert ("class" in names) is (path == "/explain")
    for media_type, image in (("multipart/form-data", "file"), ("application/json", "image")):
        reference = operation["requestBody"]["content"][media_type]["schema"]["$ref"].rpartition("/")[2]
        assert schema["components"]["schemas"][reference]["properties"].keys() == {image, *names}
