"""Threshold files, and what meets them."""

import json
import re
from pathlib import Path

import pytest

from scripts.comparing.requirements import Requirements, judge, read_requirements
from scripts.errors import CompareError

DOCS = Path(__file__).parents[3] / "docs" / "compare.md"


def figure(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


FIGURES = {
    "data": {"films": 40},
    "answers": {
        "changed": figure(0.1, 0.04, 0.23),
        "became_wrong": figure(0.05, 0.01, 0.17),
        "accuracy": {"first": figure(0.8), "second": figure(0.75, 0.6, 0.9), "difference": figure(-0.05, -0.12, 0.02)},
    },
    "areas": {
        "a": {"second": figure(0.9, 0.85, 0.95), "difference": figure(-0.02, -0.06, 0.02)},
        "b": {"second": figure(0.7, 0.6, 0.8), "difference": figure(0.1, 0.05, 0.15)},
    },
    "calibration": {"second": figure(0.08, 0.02, 0.11), "difference": figure(0.03, -0.01, 0.06)},
    "novelty": {"changed": figure(0.025, 0.0, 0.13)},
    "explanations": {
        "vanished": figure(0.0, 0.0, 0.09),
        "rank_correlation": {"mean": figure(0.9, 0.88, 0.92)},
        "hottest_overlap": {"mean": figure(0.7, 0.65, 0.75)},
        "shared_heat": {"mean": figure(0.8, 0.78, 0.82)},
    },
}
# By key: a limit that the value just meets, and one that the unfavourable end of its interval just meets.
LIMITS = {
    "max_changed_answers": (0.1, 0.23),
    "max_became_wrong": (0.05, 0.17),
    "min_accuracy": (0.75, 0.6),
    "max_accuracy_loss": (0.05, 0.12),
    "min_area": (0.7, 0.6),
    "max_area_loss": (0.02, 0.06),
    "max_calibration_error": (0.08, 0.11),
    "max_calibration_loss": (0.03, 0.06),
    "max_changed_novelty": (0.025, 0.13),
    "min_rank_correlation": (0.9, 0.88),
    "min_hottest_overlap": (0.7, 0.65),
    "min_shared_heat": (0.8, 0.78),
    "max_vanished_maps": (0.0, 0.09),
}


def met(**content):
    return all(verdict.met for verdict in judge(Requirements(**content), FIGURES))


@pytest.mark.parametrize("key", LIMITS)
def test_each_key_limits_its_figure(key):
    """A limit is met inclusively, and not by a thousandth beyond; by value, or by the worse end of the interval."""
    stricter = 0.001 if key.startswith("min_") else -0.001
    for judged_by, limit in zip(("value", "interval"), LIMITS[key], strict=True):
        assert met(**{key: limit}, judged_by=judged_by)
        if 0 <= limit + stricter <= 1:
            assert not met(**{key: limit + stricter}, judged_by=judged_by)


def test_the_number_of_films_is_limited():
    """So that a folder that lost its films passes nothing."""
    assert met(min_films=40)
    assert not met(min_films=41)


def test_every_key_is_tested_and_documented():
    """In the table of docs/compare.md, and nothing else is."""
    keys = set(Requirements.model_fields)
    assert keys == {*LIMITS, "min_films", "judged_by"}
    section = DOCS.read_text(encoding="utf-8").split("## Refuse a release")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == keys


def test_a_verdict_is_a_sentence():
    """With the figure, the limit and the key; each area has its own."""
    verdicts = judge(Requirements(min_area=0.8, max_changed_answers=0.2), FIGURES)
    assert [(verdict.met, verdict.sentence) for verdict in verdicts] == [
        (True, "the share of answers that change is 0.1 and may be at most 0.2 (max_changed_answers)"),
        (True, "the area of a is 0.9 and must be at least 0.8 (min_area)"),
        (False, "the area of b is 0.7 and must be at least 0.8 (min_area)"),
    ]


def test_what_was_not_measured_is_not_met():
    """No novelty score, no area, no film with two heatmaps: a release that nobody could judge is refused."""
    figures = FIGURES | {
        "novelty": None,
        "areas": {},
        "explanations": FIGURES["explanations"] | {"rank_correlation": {"mean": {"value": None}}},
    }
    verdicts = judge(Requirements(max_changed_novelty=1, min_area=0, min_rank_correlation=-1), figures)
    assert [verdict.key for verdict in verdicts if not verdict.met] == [
        "min_area",
        "max_changed_novelty",
        "min_rank_correlation",
    ]
    assert all("no figure" in verdict.sentence for verdict in verdicts)


def test_files_of_either_kind_are_read(tmp_path):
    """By the end of their names."""
    (tmp_path / "a.toml").write_text('judged_by = "interval"\nmin_films = 20\nmax_changed_answers = 0\n')
    (tmp_path / "a.json").write_text('{"judged_by": "interval", "min_films": 20, "max_changed_answers": 0}')
    expected = Requirements(judged_by="interval", min_films=20, max_changed_answers=0)
    assert read_requirements(tmp_path / "a.toml") == read_requirements(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"max_changed_answer": 0.1}, "max_changed_answer: Extra inputs are not permitted; its keys are judged_by"),
        ({"max_changed_answers": 10}, "less than or equal to 1"),
        ({"max_changed_answers": "0.1"}, "valid number"),
        ({"judged_by": "feeling", "min_films": 1}, "'value' or 'interval'"),
        ({"judged_by": "value"}, "requires nothing"),
        ([], "the file: Input should be"),
    ],
)
def test_a_file_that_says_nothing_clear_is_refused(tmp_path, content, said):
    """With the keys that there are."""
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CompareError, match=re.escape(said)):
        read_requirements(path)


@pytest.mark.parametrize("name", ["broken.toml", "broken.json", "absent.json"])
def test_a_file_that_can_not_be_read_is_refused(tmp_path, name):
    """With the reason."""
    if name.startswith("broken"):
        (tmp_path / name).write_text("max_changed_answers 0.1")
    with pytest.raises(CompareError, match=f"{name} can't be read"):
        read_requirements(tmp_path / name)
