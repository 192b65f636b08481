"""Full success, from whatever a judge could answer."""

from dataclasses import replace

import pytest

from vsf.judges.base import Case, Question, Verdict
from vsf.judges.scenes.embedded import question_of
from vsf.judges.scenes.judge import Reading, answer, part_pixels
from vsf.tiny.scenes import Scene, Thing

CAR = Thing("car", frozenset({"windows"}), "red", 0.3, 0.4)
CAT = Thing("cat", frozenset({"tail"}), "blue", 0.7, 0.4)
ASKED = Question("car", "wheels", "red", "snow", ("windows",), "cat")


def verdict(*things, background="snow", question=ASKED):
    return answer(Reading(Scene(things, background), 0.8), question)


def test_everything_asked_for_is_there_and_the_part_is_gone():
    found = verdict(CAR, CAT)
    names = ("colour", "place", "parts", "second object", "relation")
    assert found.checks == dict.fromkeys(names, True)
    assert (found.success, found.damage) == (True, 0.0)


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"colour": "blue"}, {"colour"}),
        ({"parts": frozenset()}, {"parts"}),
        ({"x": 0.9}, {"relation"}),
        ({"object": "bus"}, {"colour", "parts", "relation"}),
    ],
)
def test_each_thing_that_is_not_as_asked_is_damage_and_no_success(changes, failing):
    found = verdict(replace(CAR, **changes), CAT)
    assert {name for name, passed in found.checks.items() if not passed} == failing
    assert found.success is False
    assert found.damage == len(failing) / 5


def test_a_part_that_is_still_there_is_no_success_but_no_damage_either():
    found = verdict(Thing("car", frozenset({"windows", "wheels"}), "red", 0.3, 0.4), CAT)
    assert (found.negative, found.success, found.damage) == (False, False, 0.0)


def test_without_further_wishes_there_is_no_damage_to_measure():
    found = verdict(CAR, question=Question("car", "wheels"))
    assert (found.checks, found.success, found.damage) == ({}, True, None)


def test_an_unreadable_picture_is_a_failure_and_an_unscored_one_is_unknown():
    unreadable = answer(Reading(None, None), ASKED)
    assert (unreadable.success, unreadable.positive, unreadable.damage) == (False, None, None)
    assert Verdict.unscored("no answer").success is None
    # An older judge that was not asked about the rest
    assert Verdict(True, True, 0.5, "a car").success is None


def test_the_parts_that_a_prompt_names_are_read_in_it_unless_the_pair_lists_them(tmp_path):
    about = {"object": "car", "part": "wheels", "colour": "red", "background": "snow"}
    case = Case(tmp_path, "a red car with windows and wheels on snow", "wheels", "?", "?", about)
    assert question_of(case) == Question("car", "wheels", "red", "snow", ("windows",))
    listed = Case(tmp_path, case.prompt, "wheels", "?", "?", {**about, "parts": "luggage", "beside": "cat"})
    assert question_of(listed) == Question("car", "wheels", "red", "snow", ("luggage",), "cat")


def test_a_part_covers_the_pixels_that_it_changes_and_some_around_them():
    scene = Scene((Thing("car", frozenset({"wheels"}), "red", 0.5, 0.7),), "snow")
    covered = part_pixels(Reading(scene, 1.0), "car", "wheels")
    assert 0.02 < covered.mean() < 0.4
    assert not covered[: len(covered) // 3].any()  # wheels are at the bottom
    assert not part_pixels(Reading(scene, 1.0), "car", "windows").any()
    assert not part_pixels(Reading(None, None), "car", "wheels").any()
