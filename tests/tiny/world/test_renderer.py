import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.renderer import render
from vsf.tiny.world.scenes import Relation, Scene, Thing, sample_scene
from vsf.tiny.world.styles import STYLES


def pixels(scene, **options):
    return np.asarray(render(scene, **options), dtype=np.int16)


def changed(first, second):
    return np.abs(pixels(first) - pixels(second)).max(-1) > 0


def scene_of(name, parts, **options):
    return Scene((Thing(name, frozenset(parts), "red", 0.5, 0.7),), "grass", frozenset({"clouds"}), **options)


EVERY_PART = [(name, part) for name, kind in OBJECTS.items() for part in kind.parts]


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_a_part_changes_pixels_only_where_its_thing_is(name, part):
    with_part = scene_of(name, OBJECTS[name].parts)
    change = changed(with_part, with_part.without(part, 0))
    rows, columns = np.nonzero(change)
    assert len(rows) >= 12, "nobody would see it"
    assert change.mean() < 0.2
    left, right, top, bottom = 0.5 - 0.37, 0.5 + 0.37, 0.86 - 0.74, 0.86 + 0.05
    assert left * 128 <= columns.min()
    assert columns.max() <= right * 128
    assert top * 128 <= rows.min()
    assert rows.max() <= bottom * 128


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_a_part_stays_where_it_is_whatever_else_is_there(name, part):
    """Toggling one part must not move another: pixels change only where the part itself is drawn over the rest."""
    alone = changed(scene_of(name, {part}), scene_of(name, ()))
    for others in ((), OBJECTS[name].essential):
        change = changed(scene_of(name, {*others, part}), scene_of(name, {*others} - {part}))
        assert not (change & ~ndimage.binary_dilation(alone, iterations=2)).any()


@pytest.mark.parametrize(("place", "part"), [(name, part) for name, kind in PLACES.items() for part in kind.parts])
def test_a_part_of_a_place_can_be_seen_beside_a_thing(place, part):
    everything = replace(scene_of("cat", OBJECTS["cat"].parts), place=place, place_parts=frozenset(PLACES[place].parts))
    assert changed(everything, everything.without(part)).sum() >= 12


@pytest.mark.parametrize("name", list(OBJECTS))
def test_every_object_is_large_and_takes_its_colour(name):
    nothing = replace(scene_of(name, ()), things=())
    whole = scene_of(name, OBJECTS[name].parts)
    assert changed(nothing, whole).mean() > 0.08
    drawn = {colour: pixels(replace(whole, things=(replace(whole.things[0], colour=colour),))) for colour in COLOURS}
    for first in COLOURS:
        for second in COLOURS:
            if first < second:
                difference = np.abs(drawn[first] - drawn[second]).max(-1) > 12
                assert difference.mean() > 0.02, (first, second)


def test_all_objects_places_and_styles_look_different():
    scenes = [scene_of(name, OBJECTS[name].essential) for name in OBJECTS]
    scenes += [replace(scenes[0], place=place, place_parts=frozenset(PLACES[place].essential)) for place in PLACES]
    scenes += [replace(scenes[0], style=style) for style in list(STYLES)[1:]]
    drawn = [pixels(scene) for scene in scenes]
    for index, first in enumerate(drawn):
        for second in drawn[:index]:
            assert np.abs(first - second).mean() > 1.5 or np.array_equal(first, drawn[0])


@pytest.mark.parametrize("oversampling", [1, 2, 4])
@pytest.mark.parametrize("size", [64, 128])
def test_a_scene_is_drawn_the_same_twice_at_any_size(size, oversampling):
    scene = sample_scene(random.Random(3))
    image = render(scene, size, oversampling)
    assert image.size == (size, size)
    assert image.tobytes() == render(scene, size, oversampling).tobytes()


def test_more_oversampling_changes_edges_only():
    scene = scene_of("car", OBJECTS["car"].parts)
    assert np.abs(pixels(scene, oversampling=2) - pixels(scene, oversampling=4)).mean() < 2.5


@pytest.mark.parametrize(("name", "part"), EVERY_PART)
def test_a_loose_part_is_drawn_alone_and_in_the_middle(name, part):
    thing = Thing(name, frozenset({part}), "red", 0.5, 0.7, body=False)
    scene = Scene((thing,), "grass", frozenset())
    columns = np.nonzero(changed(scene, replace(scene, things=())))[1]
    assert len(columns) > 40
    assert abs((columns.min() + columns.max()) / 2 - 64) <= 2


def test_a_nearer_thing_hides_a_farther_one_and_a_carried_one_has_no_shadow():
    far, near = (Thing(name, frozenset(), "red", x, 0.5) for name, x in (("tree", 0.45), ("house", 0.55)))
    both = Scene((far, near), "grass", frozenset())
    assert changed(both, replace(both, things=(near, far))).any()
    stacked = Scene((near, replace(far, lift=0.4)), "grass", frozenset(), (Relation(1, "on", 0),))
    floating = replace(stacked, relations=())
    assert changed(stacked, floating).any()
