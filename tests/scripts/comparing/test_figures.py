"""The figures of a comparison, on answers from which they can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from app.artifact.manifest import NoveltySpec
from app.imaging.geometry import Region
from scripts.comparing.answers import ComparedAnswers, Size, VersionAnswers
from scripts.comparing.explanations import explanation_figures, moved_maps
from scripts.comparing.figures import answer_figures, area_figures, calibration_figures, novelty_figures, true_classes
from scripts.comparing.page import film_groups
from scripts.comparing.placement import PlacedMap
from scripts.datasets.films import Film
from scripts.errors import DataError
from tests.doubles import manifest

CLASSES = ("dark", "middle", "bright")
LABELS = ("dark", "dark", "bright", "bright")
FIRST = [(0.7, 0.2, 0.1), (0.4, 0.2, 0.4001), (0.1, 0.2, 0.7), (0.2, 0.5, 0.3)]
SECOND = [(0.6, 0.3, 0.1), (0.8, 0.1, 0.1), (0.3, 0.5, 0.2), (0.1, 0.6, 0.3)]
HOT = np.array([[0, 1], [0.5, 0]], np.float32)
MOVED = np.array([[1, 0], [0.5, 0]], np.float32)
EMPTY = np.zeros((2, 2), np.float32)


def version(probabilities, maps, described=None):
    described = described or manifest()
    placed = [PlacedMap(values, Region(0, 0, 10, 10)) for values in maps]
    scores = np.array([0.1, 0.2, 0.3, 0.4][: len(probabilities)], np.float32)
    return VersionAnswers(described, np.array(probabilities, np.float32), scores, placed, placed)


def compared(first, second, labels=LABELS, patients=("a", "b", "c", "d")):
    films = [
        Film(Path(f"{i}.png"), label, patient) for i, (label, patient) in enumerate(zip(labels, patients, strict=True))
    ]
    return ComparedAnswers(films, [Size(10, 10)] * len(films), CLASSES, first, second)


@pytest.fixture
def answers():
    """The second answer becomes right, the third wrong, the fourth stays wrong."""
    return compared(version(FIRST, [HOT, HOT, HOT, EMPTY]), version(SECOND, [HOT, MOVED, EMPTY, EMPTY]))


@pytest.fixture
def truth(answers):
    return true_classes(answers.films, CLASSES, multi_label=False)


def test_answers_that_change_are_counted(answers, truth):
    """Two of four; the changes lead the table."""
    figures = answer_figures(answers, truth)
    assert figures["changed"]["value"] == 0.5
    assert figures["changed"]["low"] == pytest.approx(0.150, abs=1e-3)  # Wilson's interval of 2 of 4
    assert {(row["from"], row["to"]): row["films"] for row in figures["table"]} == {
        ("bright", "dark"): 1,
        ("bright", "middle"): 1,
        ("dark", "dark"): 1,
        ("middle", "middle"): 1,
    }
    assert all(row["from"] != row["to"] for row in figures["table"][:2])
    assert figures["mcnemar"] == {"became_right": 1, "became_wrong": 1, "p_value": 1}
    assert figures["became_wrong"]["value"] == 0.25
    assert (figures["accuracy"]["first"]["value"], figures["accuracy"]["difference"]["value"]) == (0.5, 0)


def test_areas_of_classes_and_pairs(answers, truth):
    """No film is `middle`, so that only dark and bright have areas."""
    figures = area_figures(answers, truth)
    assert list(figures) == ["dark against the rest", "bright against the rest", "dark against bright"]
    # dark: 0.7 and 0.4 against 0.1 and 0.2, all in order; then 0.6 and 0.8 against 0.3 and 0.1.
    assert figures["dark against the rest"]["first"]["value"] == 1
    # bright: 0.7 and 0.3 against 0.1 and 0.4001, three of four; then 0.2 and 0.3 against 0.1 twice, all.
    assert figures["bright against the rest"]["first"]["value"] == 0.75
    assert figures["bright against the rest"]["second"]["value"] == 1
    assert figures["bright against the rest"]["difference"]["value"] == 0.25
    # shares of dark: 0.875 and 0.49994 against 0.125 and 0.4.
    assert figures["dark against bright"]["first"]["value"] == 1
    assert figures["dark against bright"]["films"] == [2, 2]


def test_the_calibration_of_the_top_class(answers, truth):
    """Tops 0.7, 0.4001, 0.7, 0.5, of which the first and third are right: two bins at 0.7, others alone."""
    figures = calibration_figures(answers, truth)
    assert figures["first"]["low"] >= 0
    assert figures["first"]["value"] == pytest.approx((2 * 0.3 + 0.4001 + 0.5) / 4)
    # 0.6 right and 0.6 wrong in one bin, 0.8 right, 0.5 wrong.
    assert figures["second"]["value"] == pytest.approx((abs(0.4 - 0.6) + 0.2 + 0.5) / 4, abs=1e-6)


def test_novelty_flags(answers):
    """Scores 0.1 to 0.4; thresholds 0.35 and 0.25; nothing to compare unless both versions have one."""
    assert novelty_figures(answers) is None
    described = [manifest(novelty=NoveltySpec(method="mahalanobis", threshold=limit)) for limit in (0.35, 0.25)]
    versions = [version(FIRST, [HOT] * 4, one) for one in described]
    figures = novelty_figures(compared(*versions))
    assert (figures["first"]["value"], figures["second"]["value"], figures["changed"]["value"]) == (0.25, 0.5, 0.25)
    assert (figures["newly_flagged"], figures["no_longer_flagged"]) == (1, 0)


def test_explanations_count_empty_heatmaps_apart(answers):
    """The first film's stays, the second's moves, the third's vanishes, the fourth never had one."""
    figures = explanation_figures(answers, moved_maps(answers))
    assert figures["empty"] == {"both": 1, "only_first": 0, "only_second": 1}
    assert figures["vanished"]["value"] == 0.25
    assert figures["films"] == 2
    # 0, 1, 0.5, 0 and 1, 0, 0.5, 0: one third of the heat stays; ranks 1.5, 4, 3, 1.5 and 4, 1.5, 3, 1.5.
    assert figures["shared_heat"]["mean"]["value"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["rank_correlation"]["quantiles"]["0.50"] == pytest.approx((1 - 1.75 / 4.5) / 2)
    # The hottest fifth of four cells is one: the same, and another.
    assert figures["hottest_overlap"]["mean"]["value"] == pytest.approx(0.5)


def test_the_control_is_another_patients_film_with_the_same_answer():
    """Two films of one patient and one of another: the maps of the patients are opposite."""
    maps = [HOT, HOT, MOVED]
    answers = compared(
        version([FIRST[0]] * 3, maps), version([FIRST[0]] * 3, maps), ("dark",) * 3, patients=("a", "a", "b")
    )
    figures = explanation_figures(answers, moved_maps(answers))["shared_heat"]
    assert figures["mean"]["value"] == pytest.approx(1)
    assert figures["control"]["value"] == pytest.approx(1 / 3)
    alone = compared(version(FIRST[:1], [HOT]), version(FIRST[:1], [HOT]), ("dark",), patients=("a",))
    assert explanation_figures(alone, moved_maps(alone))["shared_heat"]["control"]["value"] is None


def test_the_films_that_changed_most_come_first_and_once(answers):
    """The third answer shifts by 0.5, the second by 0.4; the heatmaps of other films do not move."""
    groups = film_groups(answers, moved_maps(answers))
    assert groups["Answers that change"] == [2, 1]
    assert groups["Heatmaps that appear or vanish"] == []
    assert groups["Heatmaps that move most"] == []
    same = compared(version(FIRST, [HOT] * 4), version(FIRST, [HOT, MOVED, EMPTY, HOT]))
    groups = film_groups(same, moved_maps(same))
    assert list(groups.values()) == [[], [2], [1]]


def test_answers_of_a_multi_label_model_are_sets():
    """Each class by itself, at its threshold; an answer is right if it is exactly the label."""
    described = manifest().model_copy(update={"task": "multi_label", "thresholds": (0.5, 0.5, 0.35)})
    first = version([(0.6, 0.1, 0.4), (0.1, 0.1, 0.1)], [HOT] * 2, described)
    second = version([(0.6, 0.7, 0.3), (0.1, 0.1, 0.1)], [HOT] * 2, described)
    answers = compared(first, second, ("dark|bright", "No Finding"), ("a", "b"))
    truth = true_classes(answers.films, CLASSES, multi_label=True)
    figures = answer_figures(answers, truth)
    assert figures["table"] == [
        {"from": "dark | bright", "to": "dark | middle", "films": 1},
        {"from": "none", "to": "none", "films": 1},
    ]
    assert figures["mcnemar"]["became_wrong"] == 1
    assert {name: (row["added"], row["dropped"]) for name, row in figures["classes"].items()} == {
        "dark": (0, 0),
        "middle": (1, 0),
        "bright": (0, 1),
    }
    assert list(area_figures(answers, truth)) == ["dark", "bright"]
    # Three classes, each in two films: |1 - 0.6| + 0.1, 0.1 + 0.1, 0.6 + 0.1, over six.
    assert calibration_figures(answers, truth)["first"]["value"] == pytest.approx(1.4 / 6, abs=1e-6)


def test_two_classes_are_one_pair():
    """Against the rest would say the same twice more."""
    films = [Film(Path(f"{i}.png"), label) for i, label in enumerate(("dark", "bright"))]
    described = manifest().model_copy(update={"classes": ("dark", "bright")})
    one = version([(0.9, 0.1), (0.3, 0.7)], [HOT] * 2, described)
    answers = ComparedAnswers(films, [Size(10, 10)] * 2, ("dark", "bright"), one, one)
    assert list(area_figures(answers, true_classes(films, ("dark", "bright"), multi_label=False))) == [
        "dark against bright"
    ]


def test_a_label_of_no_class_is_refused(answers):
    """By its name, and for either task."""
    for multi_label in (False, True):
        with pytest.raises(DataError, match="bright"):
            true_classes(answers.films, ("dark", "middle"), multi_label=multi_label)
