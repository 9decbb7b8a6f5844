"""A loaded model is asked again what it was asked when it was exported."""

import dataclasses

import numpy as np
import pytest

from app.artifact.manifest import SanitySpec, SelfTestSpec
from app.errors import SelfTestError
from app.serving.self_test import capture_golden, check_sanity, read_golden, replay, run_self_test, write_golden
from tests import models
from tests.doubles import BrightnessRuntime, manifest

SPEC = SelfTestSpec(file="golden.npz", cases=2, probability_tolerance=0.01, relative_tolerance=0.05)


def golden():
    images = np.random.default_rng(0).integers(0, 60, (2, 8, 8, 3), np.uint8)
    images[1] += 190
    return capture_golden(BrightnessRuntime(), images, np.array([[-1, 0, 0], [0, 0, 1]], np.float32))


def test_golden_cases_survive_the_file(tmp_path):
    """And the same cases give the same bytes."""
    write_golden(tmp_path / "golden.npz", golden())
    write_golden(tmp_path / "again.npz", golden())
    assert (tmp_path / "golden.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    read = read_golden(tmp_path / "golden.npz")
    assert (read.box, read.regions) == (None, None)
    for field in dataclasses.fields(read):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(golden(), field.name))


def test_a_model_that_answers_the_same_passes():
    """The double is its own golden case."""
    replay(BrightnessRuntime(), golden(), SPEC)


@pytest.mark.parametrize(
    ("name", "change"), [("probabilities", 0.011), ("logits", 0.2), ("novelty", 0.06), ("maps", 0.06)]
)
def test_another_answer_is_refused_with_its_figure(name, change):
    """One value of one case is enough; within the tolerance none is."""
    moved = getattr(golden(), name).copy()
    moved.reshape(2, -1)[1, 0] += change
    with pytest.raises(SelfTestError, match=rf"{name} differ .* by up to 0\.\d+; 0\.\d+ is allowed"):
        replay(BrightnessRuntime(), dataclasses.replace(golden(), **{name: moved}), SPEC)
    moved.reshape(2, -1)[1, 0] -= change * 0.99
    replay(BrightnessRuntime(), dataclasses.replace(golden(), **{name: moved}), SPEC)


def organ_cases(runtime):
    """The golden cases of a model with a box and regions."""
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, 8:24, 8:16, 0] = 255
    return capture_golden(runtime, images, np.eye(2, dtype=np.float32))


def test_the_box_and_the_regions_are_replayed(runtime_of, tmp_path):
    """From the file; where they moved, the model is refused, and where none were recorded, none are compared."""
    runtime = runtime_of(models.red_organ)
    write_golden(tmp_path / "golden.npz", organ_cases(runtime))
    cases = read_golden(tmp_path / "golden.npz")
    np.testing.assert_allclose(cases.box, [[0.25, 0.25, 0.5, 0.75], [0, 0, 1, 1]])
    replay(runtime, cases, SPEC)
    for name in ("box", "regions"):
        with pytest.raises(SelfTestError, match=rf"{name} differ .* by up to 0\.06"):
            replay(runtime, dataclasses.replace(cases, **{name: getattr(cases, name) + 0.06}), SPEC)
    replay(runtime, dataclasses.replace(cases, box=None, regions=None), SPEC)


def test_a_box_that_a_model_no_longer_answers_is_refused():
    """It was recorded of another model."""
    with pytest.raises(SelfTestError, match=r"'box' of shape \(2, 4\), and the model answers none"):
        replay(BrightnessRuntime(), dataclasses.replace(golden(), box=np.zeros((2, 4), np.float32)), SPEC)


def test_a_manifest_of_another_task_is_refused(tmp_path):
    """Probabilities that exclude one another are none of independent labels, nor of another temperature."""
    write_golden(tmp_path / "golden.npz", golden())
    for change in ({"task": "multi_label"}, {"temperature": 2.0}):
        changed = manifest().model_copy(update={"self_test": SPEC, **change})
        with pytest.raises(SelfTestError, match="the manifest contradicts the SavedModel"):
            run_self_test(BrightnessRuntime(changed), tmp_path)


def test_an_answer_that_is_no_number_is_refused():
    """NaN is within no tolerance."""
    with pytest.raises(SelfTestError, match="nan"):
        replay(BrightnessRuntime(), dataclasses.replace(golden(), maps=golden().maps * np.nan), SPEC)


def test_maps_that_are_all_nothing_can_be_replayed():
    """A class that no cell speaks about has a gradient of zero."""
    images = golden().images
    silent = capture_golden(BrightnessRuntime(), images, np.tile(np.array([[0, 1, 0]], np.float32), (2, 1)))
    assert not silent.maps.any()
    replay(BrightnessRuntime(), silent, SPEC)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_file_that_holds_no_cases_is_refused(tmp_path, content):
    """Its digest may be right all the same."""
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(SelfTestError, match="can be read"):
        read_golden(tmp_path / "golden.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    """They could run anything."""
    np.savez(tmp_path / "golden.npz", images=np.array([{"a": 1}], object))
    with pytest.raises(SelfTestError, match="can be read"):
        read_golden(tmp_path / "golden.npz")


def test_arrays_of_another_kind_are_refused(tmp_path):
    """The message names the array; cases of another model are told by their shapes."""
    write_golden(tmp_path / "golden.npz", dataclasses.replace(golden(), maps=golden().maps[:1]))
    with pytest.raises(SelfTestError, match="'maps'"):
        read_golden(tmp_path / "golden.npz")
    with pytest.raises(SelfTestError, match="contradict the manifest"):
        replay(BrightnessRuntime(manifest(side=4)), golden(), SPEC)


def test_an_artefact_without_cases_has_nothing_to_pass(tmp_path):
    """Older ones load as they did."""
    run_self_test(BrightnessRuntime(), tmp_path)


def insane(correlation):
    return SanitySpec(cases=4, correlations=(0.9, correlation), control=(1.0, 1.0), limit=0.5)


def test_maps_that_do_not_follow_the_weights_refuse_a_trained_model(tmp_path):
    """With the figure; what is not known to be trained is told, and served."""
    check_sanity(insane(0.49))
    with pytest.raises(SelfTestError, match=r"0\.97"):
        check_sanity(insane(0.97))
    stuck = manifest().model_copy(update={"sanity": insane(0.97)})
    run_self_test(BrightnessRuntime(stuck), tmp_path)
    with pytest.raises(SelfTestError, match=r"0\.97"):
        run_self_test(BrightnessRuntime(stuck.model_copy(update={"training": {"seed": 0}})), tmp_path)


def test_the_cases_of_an_entry_are_replayed(tmp_path):
    """By the name that the manifest gives."""
    tested = manifest().model_copy(update={"self_test": SPEC})
    write_golden(tmp_path / "golden.npz", golden())
    run_self_test(BrightnessRuntime(tested), tmp_path)
    write_golden(tmp_path / "golden.npz", dataclasses.replace(golden(), maps=-golden().maps))
    with pytest.raises(SelfTestError, match="maps differ"):
        run_self_test(BrightnessRuntime(tested), tmp_path)
