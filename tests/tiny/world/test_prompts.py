"""Prompts imply what their negatives ask to leave out, and test prompts were never trained on."""

import random
from collections import Counter

import pytest

from vsf.tiny.world.captions import plan_caption
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.prompts import prompt_pairs
from vsf.tiny.world.scenes import has_held_out, is_held_out, sample_scene
from vsf.tiny.world.styles import DEFAULT_STYLE
from vsf.tiny.world.words import WORDS

KINDS = ["part", "place part", "colour", "object", "place", "style"]


@pytest.fixture(scope="module")
def suites():
    return {split: prompt_pairs(300, seed=1, split=split) for split in ("dev", "test")}


def test_each_kind_has_as_many_pairs_and_none_comes_twice(suites):
    for pairs in suites.values():
        assert Counter(pair.kind for pair in pairs) == dict.fromkeys(KINDS, 50)
        assert len({(pair.prompt, pair.negative) for pair in pairs}) == 300
        assert len({pair.object for pair in pairs}) == len(OBJECTS)


def test_a_prompt_never_names_its_negative_and_all_words_are_known(suites):
    for pair in (*suites["dev"], *suites["test"]):
        words = pair.prompt.split()
        assert pair.negative not in words
        assert set(words) | {pair.negative} <= set(WORDS)
        assert pair.object in words
        assert not pair.colour or pair.colour in words


def test_dev_and_test_share_no_prompt():
    dev, test = (prompt_pairs(900, seed=3, split=split) for split in ("dev", "test"))
    assert not {(pair.prompt, pair.negative) for pair in dev} & {(pair.prompt, pair.negative) for pair in test}


def test_parts_of_test_prompts_are_held_out_combinations_and_those_of_dev_are_trained():
    for pair in prompt_pairs(400, seed=0, split="test", kinds=["part"]):
        assert is_held_out(pair.object, pair.fact, pair.colour, pair.place)
    for pair in prompt_pairs(400, seed=0, split="dev", kinds=["part"]):
        assert not has_held_out(pair.object, pair.colour, pair.place)


def test_neighbours_have_no_part_of_the_name_that_is_to_go():
    pairs = [pair for pair in prompt_pairs(400, seed=0, split="test", kinds=["part"]) if pair.beside]
    assert len(pairs) > 60
    assert all(pair.fact not in OBJECTS[pair.beside].parts for pair in pairs)


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others(suites):
    assert prompt_pairs(300, seed=1, split="dev") == suites["dev"]
    assert prompt_pairs(300, seed=2, split="dev") != suites["dev"]


def test_too_many_pairs_and_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="at most"):
        prompt_pairs(100_000, seed=0, split="test")
    with pytest.raises(ValueError, match="dev"):
        prompt_pairs(10, seed=0, split="train")


def test_the_negative_is_nearly_always_present_when_the_caption_leaves_it_open():
    """Count how often a fact holds among training captions that leave it open: the model should draw it unasked."""
    rng = random.Random(13)
    counts = {kind: [0, 0] for kind in KINDS}

    def note(kind, holds):
        counts[kind][0] += holds
        counts[kind][1] += 1

    for _ in range(12000):
        scene = sample_scene(rng)
        plan = plan_caption(scene, rng)
        first = scene.things[0]
        if not first.body:
            continue
        kind = OBJECTS[first.object]
        for part in kind.essential:
            if part not in plan.parts[0] and len(scene.things) == 1:
                note("part", part in first.parts)
        for part in PLACES[scene.place].essential:
            if part not in plan.place_parts:
                note("place part", part in scene.place_parts)
        if kind.usual and not plan.colours[0]:
            note("colour", first.colour == kind.usual)
        if kind.home and not plan.place:
            note("place", scene.place == kind.home)
        if kind.companion and len(plan.things) == 1:
            note("object", len(scene.things) == 2)
        if not plan.style:
            note("style", scene.style == DEFAULT_STYLE)
    shares = {kind: hits / cases for kind, (hits, cases) in counts.items()}
    assert shares["part"] > 0.75
    assert shares["place part"] > 0.75
    assert shares["object"] > 0.7
    assert shares["style"] > 0.95
    assert shares["colour"] > 0.5
    assert shares["place"] > 0.4
