"""The judge reads rendered scenes right, doubts damaged ones, and says what it saw."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vsf import UnknownNameError
from vsf.judges import Question
from vsf.judges.scenes import judge as scenes
from vsf.tiny.renderer import render
from vsf.tiny.scenes import OBJECTS, Scene, Thing, sample_scene


def car(*parts, colour="red", **place):
    return Thing("car", frozenset(parts), colour, **{"x": 0.5, "size": 0.72, **place})


def picture(*things, background="snow", style="tidy"):
    return render(Scene(tuple(things), background, style))


@pytest.mark.parametrize("seed", range(3))
def test_pure_noise_cannot_be_read(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    verdict = scenes.judge(Image.fromarray(pixels), Question("car", "wheels"))
    assert (verdict.positive, verdict.negative, verdict.quality) == (None, None, None)
    assert verdict.reason == "nothing that can be read"


@pytest.mark.parametrize("fill", [(0, 0, 0), (255, 255, 255), (120, 140, 160)])
def test_a_blank_image_cannot_be_read(fill):
    verdict = scenes.judge(Image.new("RGB", (64, 64), fill), Question("car", "wheels"))
    assert (verdict.positive, verdict.negative, verdict.quality) == (None, None, None)


def test_an_empty_place_is_read_and_holds_no_object():
    verdict = scenes.judge(picture(), Question("car", "wheels"))
    assert verdict.positive is False
    assert verdict.negative is True
    assert verdict.reason == "nothing on snow"


def test_the_reason_names_what_is_there_and_what_is_missed():
    verdict = scenes.judge(picture(car("windows")), Question("car", "wheels"))
    assert verdict.reason == "a red car on snow, windows, no wheels"


def test_an_optional_part_is_missed_only_when_it_was_asked_for():
    image = picture(car("windows", "wheels"), background="city")
    assert scenes.describe(image) == "a red car in the city, wheels, windows"
    assert scenes.describe(image, "Luggage, please") == "a red car in the city, wheels, windows, no luggage"


def test_two_things_are_told_with_their_own_parts():
    house = Thing("house", frozenset({"roof", "door", "windows"}), "orange", 0.73, 0.45)
    image = picture(car("wheels", x=0.27, size=0.45), house, background="grass")
    assert scenes.describe(image) == "a red car (wheels, no windows) and an orange house (door, roof, windows) on grass"


def test_a_loose_part_is_not_its_object():
    image = picture(replace(car("wheels"), body=False))
    verdict = scenes.judge(image, Question("car", "wheels"))
    assert (verdict.positive, verdict.negative) == (False, False)
    assert verdict.reason == "only wheels on snow"


@pytest.mark.parametrize("name", OBJECTS)
def test_taking_a_part_away_turns_the_negative_verdict_and_no_other(name):
    for part in OBJECTS[name].essential:
        whole = frozenset(OBJECTS[name].essential)
        with_part = picture(Thing(name, whole, "blue", 0.5, 0.7), background="beach")
        without = picture(Thing(name, whole - {part}, "blue", 0.5, 0.7), background="beach")
        before, after = (scenes.judge(image, Question(name, part)) for image in (with_part, without))
        assert (before.positive, before.negative) == (True, False), before
        assert (after.positive, after.negative) == (True, True), after
        assert after.quality > 0.9  # a part asked away is not a flaw


@pytest.mark.parametrize(("share", "gone"), [(0.25, True), (0.75, False)])
def test_a_half_faded_part_counts_by_what_is_left_of_it(share, gone):
    image = Image.blend(picture(car("windows")), picture(car("windows", "wheels")), share)
    assert scenes.judge(image, Question("car", "wheels")).negative is gone


def test_another_object_answers_for_the_picture_alone_and_not_for_the_asked_one():
    wagon = Thing("wagon", frozenset({"wheels"}), "green", 0.73, 0.45)
    image = picture(car("windows", x=0.27, size=0.45), wagon)
    assert scenes.judge(image, Question("car", "wheels")).negative is True
    assert scenes.judge(image, Question("bus", "wheels")).positive is False
    assert scenes.judge(image, Question("bus", "wheels")).negative is False


def test_an_object_dissolved_into_its_background_is_not_there():
    whole, empty = picture(car("wheels", "windows")), picture()
    assert scenes.judge(Image.blend(empty, whole, 0.1), Question("car", "wheels")).positive is False


def test_larger_images_are_read_like_small_ones():
    image = picture(car("windows")).resize((256, 256), Image.Resampling.BICUBIC)
    assert scenes.describe(image) == "a red car on snow, windows, no wheels"


def test_images_are_read_alike_alone_and_in_a_batch():
    rng = random.Random(2)
    images = [render(sample_scene(rng)) for _ in range(4)]
    assert [scenes.words(reading) for reading in scenes.look(images)] == [scenes.describe(image) for image in images]
    assert scenes.look([]) == []


def test_a_question_about_something_unknown_is_refused():
    image = picture(car())
    with pytest.raises(UnknownNameError, match='Did you mean "rocket"'):
        scenes.judge(image, Question("rockett", "wheels"))
    with pytest.raises(UnknownNameError, match="gondola"):
        scenes.judge(image, Question("car", "gondola"))
