"""What a manifest says of labels and of the features' place."""

import pytest
from pydantic import ValidationError

from app.artifact.manifest import Manifest, RegionSpec
from tests.doubles import manifest


def changed(**changes):
    return Manifest.model_validate(manifest().model_dump() | changes)


def test_a_manifest_from_before_is_of_a_single_label_model():
    """It has no task, thresholds, resampling or region."""
    old = manifest().model_dump(exclude={"task", "thresholds", "region"})
    del old["input"]["resize"], old["feature_layer"]["region"]
    found = Manifest.model_validate(old)
    assert (found.task, found.thresholds, found.region) == ("single_label", None, None)
    assert (found.input.resize, found.feature_layer.region) == ("antialias", None)


def test_each_class_of_a_multi_label_model_has_a_threshold():
    """Its own, or a half."""
    assert changed(task="multi_label").threshold("bright") == 0.5
    assert changed(task="multi_label", thresholds=[0.1, 0.2, 0.3]).threshold("bright") == 0.3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"thresholds": [0.1, 0.2, 0.3]}, "only a multi_label"),
        ({"task": "multi_label", "thresholds": [0.1]}, "1 thresholds for 3 classes"),
        ({"task": "multi_label", "thresholds": [0.1, 0.2, 1.5]}, "less than or equal to 1"),
        ({"task": "regression"}, "single_label"),
    ],
)
def test_thresholds_that_say_nothing_are_refused(changes, reason):
    """Where classes exclude one another, or not one for each."""
    with pytest.raises(ValidationError, match=reason):
        changed(**changes)


def test_a_region_without_an_extent_is_refused():
    """Left is left of right."""
    layer = {"name": "blocks", "height": 8, "width": 8, "channels": 1}
    assert changed(feature_layer=layer | {"region": [-0.1, 0.2, 0.5, 1]}).feature_layer.region == (-0.1, 0.2, 0.5, 1)
    with pytest.raises(ValidationError, match="left of right"):
        changed(feature_layer=layer | {"region": [0.5, 0, 0.5, 1]})


def test_an_organ_needs_no_more_than_a_name():
    """Its thresholds are shares; without one, a method has no warning."""
    assert changed(region={"name": "lungs"}).region == RegionSpec(name="lungs", gated=False, min_share_of_image=0.0)
    assert changed(region={"name": "lungs"}).region.min_share_of_heat == {}
    for wrong in ({"name": ""}, {"name": "x", "min_share_of_image": 1.0}, {"name": "x", "min_share_of_heat": {"a": 2}}):
        with pytest.raises(ValidationError):
            changed(region=wrong)
