import random
from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import pytest
from PIL import Image, ImageChops

from vsf.tiny.renderer import LOOKS, render
from vsf.tiny.scenes import (
    BACKGROUNDS,
    COLOURS,
    MAX_WORDS,
    OBJECTS,
    PARTS,
    STYLES,
    Scene,
    Thing,
    caption,
    is_held_out,
    prompt_pairs,
    sample_scene,
    with_essentials,
    without_parts,
)
from vsf.tiny.words import WORDS

SCENES = [sample_scene(rng) for rng in [random.Random(20)] for _ in range(12_000)]
CAPTIONS = [caption(scene, rng).split() for rng in [random.Random(21)] for scene in SCENES]
TOLD = list(zip(SCENES, CAPTIONS, strict=True))


def share(outcomes):
    outcomes = list(outcomes)
    assert len(outcomes) >= 500, "too few cases to say anything"
    return sum(outcomes) / len(outcomes)


def changed(first: Image.Image, second: Image.Image, level: int = 40) -> int:
    """How many pixels differ by at least `level` of 255 in some channel."""
    red, green, blue = ImageChops.difference(first, second).split()
    return sum(ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()[level:])


def alone(name, parts, *, colour="blue", background="grass", style="tidy", body=True):
    return Scene((Thing(name, frozenset(parts), colour, 0.5, 0.72, body),), background, style)


def test_the_world_is_as_rich_as_promised():
    owners = Counter(part for kind in OBJECTS.values() for part in kind.parts)
    assert len(OBJECTS) >= 12
    assert len(PARTS) >= 30
    assert sum(count >= 2 for count in owners.values()) >= 10
    assert len(COLOURS) >= 8
    assert len(BACKGROUNDS) >= 6
    assert set(STYLES) == set(LOOKS)
    for kind in OBJECTS.values():
        assert 2 <= len(kind.parts) == len(set(kind.parts)) <= 5
        assert 1 <= len(kind.essential) <= 3


def test_no_word_has_two_meanings():
    meanings = [set(OBJECTS), set(PARTS), set(COLOURS), set(BACKGROUNDS), set(STYLES)]
    assert all(not first & second for first, second in combinations(meanings, 2))


def test_colours_are_far_from_each_other():
    for first, second in combinations(COLOURS.values(), 2):
        assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) > 75**2


def test_parts_are_present_as_often_as_promised():
    things = [thing for scene in SCENES for thing in scene.things if thing.body]
    for parts, rate in (("essential", 0.88), ("optional", 0.55)):
        rows = [part in thing.parts for thing in things for part in getattr(OBJECTS[thing.object], parts)]
        assert share(rows) == pytest.approx(rate, abs=0.01)


def test_scenes_of_each_kind_are_as_frequent_as_promised():
    assert share(not scene.things[0].body for scene in SCENES) == pytest.approx(0.15, abs=0.015)
    assert share(len(scene.things) == 2 for scene in SCENES) == pytest.approx(0.12, abs=0.015)
    assert share(scene.style == STYLES[0] for scene in SCENES) == pytest.approx(0.8, abs=0.015)
    for field, words in (("object", OBJECTS), ("colour", COLOURS)):
        counts = Counter(getattr(thing, field) for scene in SCENES for thing in scene.things)
        assert set(counts) == set(words)
        assert max(counts.values()) < 1.3 * min(counts.values())


def test_present_parts_are_named_in_half_of_the_captions():
    singles = [(scene.things[0], words) for scene, words in TOLD if len(scene.things) == 1 and scene.things[0].body]
    assert share(part in words for thing, words in singles for part in thing.parts) == pytest.approx(0.5, abs=0.012)


def test_colour_background_and_style_are_named_as_often_as_promised():
    singles = [(scene, words) for scene, words in TOLD if len(scene.things) == 1]
    bodies = [(scene, words) for scene, words in singles if scene.things[0].body]
    assert share(scene.things[0].colour in words for scene, words in bodies) == pytest.approx(0.85, abs=0.015)
    assert share(scene.background in words for scene, words in TOLD) == pytest.approx(0.8, abs=0.015)
    default = [words for scene, words in TOLD if scene.style == STYLES[0]]
    assert share(STYLES[0] in words for words in default) == pytest.approx(0.05, abs=0.01)
    assert all(scene.style in words for scene, words in TOLD if scene.style != STYLES[0])


def test_absent_parts_are_never_named():
    for scene, words in TOLD:
        present = frozenset().union(*(thing.parts for thing in scene.things))
        assert set(words) & set(PARTS) <= present


def test_captions_name_nothing_that_is_not_in_the_scene():
    for scene, words in TOLD:
        named = set(words)
        assert named & set(OBJECTS) == {thing.object for thing in scene.things if thing.body}
        assert named & set(COLOURS) <= {thing.colour for thing in scene.things if thing.body}
        assert named & set(BACKGROUNDS) <= {scene.background}
        assert named & set(STYLES) <= {scene.style}


def test_a_loose_part_is_always_named_and_its_object_never():
    loose = [(scene.things[0], words) for scene, words in TOLD if not scene.things[0].body]
    for thing, words in loose:
        (part,) = thing.parts
        assert part in words
        assert thing.object not in words
    assert {part for thing, _ in loose for part in thing.parts} == set(PARTS)


def test_captions_are_short_and_speak_the_closed_vocabulary():
    assert max(len(words) for words in CAPTIONS) <= 20
    assert {word for words in CAPTIONS for word in words} == set(WORDS)
    assert list(WORDS) == sorted(set(WORDS))
    assert all(word.isalpha() and word.islower() for word in WORDS)
    assert not set(WORDS) & {"no", "not", "without", "none", "never"}


def test_the_fullest_scene_still_fits_into_twenty_words():
    full = tuple(
        Thing(name, frozenset(OBJECTS[name].parts), "orange", x, 0.45) for name, x in (("cat", 0.3), ("robot", 0.7))
    )
    rng = random.Random(4)
    lengths = [len(caption(Scene(full, "desert", "sketchy"), rng).split()) for _ in range(300)]
    assert max(lengths) == 20


def test_captions_read_as_english():
    class Always(random.Random):
        def random(self):
            return 0.0

    scene = Scene((Thing("boat", frozenset({"anchor"}), "orange", 0.5, 0.7),), "night", "misty")
    assert caption(scene, Always()) == "a misty orange boat with an anchor at night"
    assert caption(alone("car", {"wheels"}, background="snow", body=False), Always()) == "tidy wheels on snow"
    second = replace(scene.things[0], object="house", parts=frozenset({"windows"}), colour="red")
    pair = replace(scene, things=(*scene.things, second), background="desert")
    expected = "a misty orange boat with an anchor and a red house with windows in the desert"
    assert caption(pair, Always()) == expected


def held_out_combinations(scene):
    return [
        (thing.object, part, thing.colour, scene.background)
        for thing in scene.things
        for part in OBJECTS[thing.object].essential
        if is_held_out(thing.object, part, thing.colour, scene.background)
    ]


def test_a_caption_loses_its_parts_and_nothing_else():
    shorter = {
        "a red car with wheels and a roof on snow": "a red car on snow",
        "a car with lights and windows and a misty house with a door": "a car and a misty house",
        "wheels on snow": "wheels on snow",
        "a red car on snow": "a red car on snow",
    }
    assert {text: without_parts(text) for text in shorter} == shorter
    for scene, words in TOLD[:3000]:
        left = without_parts(" ".join(words)).split()
        if scene.things[0].body:
            assert left == [word for word in left if word not in PARTS and word != "with"]
            assert [thing.object for thing in scene.things] == [word for word in left if word in OBJECTS]
        else:
            assert left == list(words)


def test_the_caption_with_essential_parts_names_each_once_and_changes_nothing_else():
    longer = {
        "a red car on snow": "a red car with wheels and windows on snow",
        "a green table with apples": "a green table with apples and legs",
        "sketchy boat in the city": "sketchy boat with a sail in the city",
        "a house with windows and a roof and a door": "a house with windows and a roof and a door",
        "wheels on snow": "wheels on snow",
        "a red car and a blue house": "a red car and a blue house",
        "": "",
    }
    assert {text: with_essentials(text) for text in longer} == longer
    for scene, words in TOLD[:3000]:
        said = with_essentials(" ".join(words)).split()
        if len(scene.things) == 1 and scene.things[0].body:
            assert all(said.count(part) == 1 for part in OBJECTS[scene.things[0].object].essential)
            assert len(said) <= MAX_WORDS
            assert Counter(words) <= Counter(said)
        else:
            assert said == list(words)


def test_training_never_sees_a_held_out_combination():
    assert not any(held_out_combinations(scene) for scene in SCENES)


def test_held_out_scenes_always_hold_a_held_out_combination():
    rng = random.Random(5)
    assert all(held_out_combinations(sample_scene(rng, held_out=True)) for _ in range(500))


def test_about_a_tenth_of_the_combinations_is_held_out_and_some_of_every_object():
    rows = [
        (name, is_held_out(name, part, colour, background))
        for name, kind in OBJECTS.items()
        for part, colour, background in product(kind.essential, COLOURS, BACKGROUNDS)
    ]
    assert share(held for _, held in rows) == pytest.approx(0.1, abs=0.025)
    assert {name for name, held in rows if held} == set(OBJECTS)


def crc32(text):
    """CRC-32 (IEEE 802.3), bit by bit."""
    register = 0xFFFFFFFF
    for byte in text.encode():
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_the_held_out_split_never_moves():
    held = 0
    for name, kind in OBJECTS.items():
        for part, colour, background in product(kind.essential, COLOURS, BACKGROUNDS):
            expected = crc32(f"{name}|{part}|{colour}|{background}") % 100 < 10
            assert is_held_out(name, part, colour, background) == expected
            held += expected
    assert held == 130


@pytest.mark.parametrize("split", ["dev", "test"])
def test_prompt_pairs_ask_away_an_essential_part_that_the_prompt_does_not_name(split):
    for pair in prompt_pairs(450, seed=1, split=split):
        words = pair.prompt.split()
        assert pair.negative in OBJECTS[pair.object].essential
        assert pair.negative not in words
        assert {pair.object, pair.colour, pair.background} <= set(words) <= set(WORDS)
        assert is_held_out(pair.object, pair.negative, pair.colour, pair.background) == (split == "test")
        assert pair.split == split


def test_dev_pairs_use_only_what_training_may_show():
    for pair in prompt_pairs(519, seed=2, split="dev"):
        assert not held_out_combinations(
            alone(pair.object, OBJECTS[pair.object].parts, colour=pair.colour, background=pair.background)
        )


def test_dev_has_as_many_pairs_of_each_object_and_part_as_test():
    dev, test = (
        Counter((pair.object, pair.negative) for pair in prompt_pairs(519, seed=5, split=split))
        for split in ("dev", "test")
    )
    assert dev == test


@pytest.mark.parametrize("split", ["dev", "test"])
def test_prompt_pairs_repeat_only_when_exhausted_and_follow_the_seed(split):
    pairs = prompt_pairs(450, seed=3, split=split)
    assert len(set(pairs)) == 450
    assert pairs == prompt_pairs(450, seed=3, split=split)
    assert pairs != prompt_pairs(450, seed=4, split=split)
    many = prompt_pairs(10_000, seed=3, split=split)
    assert len(many) == 10_000
    assert many[:450] == pairs


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="validation"):
        prompt_pairs(1, seed=0, split="validation")


OWNED = [(name, part) for name, kind in OBJECTS.items() for part in kind.parts]


@pytest.mark.parametrize(("name", "part"), OWNED)
def test_taking_a_part_away_changes_the_picture_visibly(name, part):
    every = frozenset(OBJECTS[name].parts)
    for (colour, background), style in product(zip(COLOURS, [*BACKGROUNDS, "grass", "snow"], strict=True), STYLES):
        for rest in (every - {part}, frozenset()):
            with_part = render(alone(name, rest | {part}, colour=colour, background=background, style=style))
            without = render(alone(name, rest, colour=colour, background=background, style=style))
            assert changed(with_part, without) >= 48, (colour, background, style)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_loose_part_shows(background):
    for name, part in OWNED:
        empty = render(Scene((), background))
        shown = changed(render(alone(name, {part}, background=background, body=False)), empty, level=70)
        assert shown >= 50, (name, part)


def test_objects_differ_even_without_their_parts():
    bare = {name: render(alone(name, ())) for name in OBJECTS}
    for first, second in combinations(bare, 2):
        assert changed(bare[first], bare[second]) >= 300, (first, second)


def test_colours_backgrounds_and_styles_change_the_picture():
    for colour, other in combinations(COLOURS, 2):
        assert changed(render(alone("house", (), colour=colour)), render(alone("house", (), colour=other))) > 500
    for place, other in combinations(BACKGROUNDS, 2):
        assert changed(render(Scene((), place)), render(Scene((), other)), level=25) > 800, (place, other)
    tidy = render(alone("car", ("wheels",)))
    for style in STYLES[1:]:
        assert changed(tidy, render(alone("car", ("wheels",), style=style)), level=25) > 1000


def test_everything_stays_inside_the_picture():
    for name, kind in OBJECTS.items():
        for x, horizon in product((0.42, 0.58), (0.63, 0.72)):
            thing = Thing(name, frozenset(kind.parts), "red", x, 0.8)
            difference = ImageChops.difference(
                render(Scene((thing,), "night", horizon=horizon)), render(Scene((), "night", horizon=horizon))
            )
            box = difference.point(lambda value: 255 * (value > 60)).getbbox()
            assert box is not None
            assert box[1] >= 1, (name, horizon)
            assert box[3] <= 63, (name, horizon)
            assert box[2] - box[0] <= 0.85 * 64


def test_rendering_is_deterministic():
    for scene in SCENES[:40]:
        first = render(scene).tobytes()
        render(alone("cake", ("candles",)))
        assert render(scene).tobytes() == first


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_a_scene_looks_alike_at_every_size(size):
    for scene in SCENES[:6]:
        image = render(scene, size)
        assert image.mode == "RGB"
        assert image.size == (size, size)
        assert changed(image.resize((32, 32), Image.Resampling.BOX), render(scene, 32), level=64) < 40
