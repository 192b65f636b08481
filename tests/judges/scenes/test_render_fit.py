"""Drawing what was read: moving it onto the picture, and telling what the picture shows of a difference."""

import random
from dataclasses import replace

import numpy as np
import pytest

from vsf.judges.scenes import render_fit as synthesis
from vsf.tiny.scenes import Scene, Thing, sample_scene


def car(*parts, **place):
    return Thing("car", frozenset(parts), "red", **{"x": 0.5, "size": 0.7, **place})


def jittered(scene, rng, spread):
    things = tuple(
        replace(thing, x=thing.x + rng.gauss(0, spread), size=thing.size + rng.gauss(0, spread))
        for thing in scene.things
    )
    return replace(scene, things=things, horizon=scene.horizon + rng.gauss(0, spread / 2))


def test_a_scene_read_a_pixel_off_is_moved_back_onto_the_picture():
    rng = random.Random(0)
    scenes = [sample_scene(rng) for _ in range(30)]
    left = []
    for scene in scenes:
        picture = synthesis.draw(scene)
        fitted, drawing = synthesis.fit(jittered(scene, rng, 0.012), picture)
        assert np.array_equal(drawing, synthesis.draw(fitted))
        left.append(synthesis.difference(drawing, picture))
    assert np.median(left) < 0.01
    assert max(left) < 0.04


def test_the_fit_never_leaves_the_picture_further_away_than_it_began():
    rng = random.Random(1)
    noise = np.random.default_rng(0)
    for _ in range(10):
        scene = sample_scene(rng)
        picture = noise.random((64, 64, 3), dtype=np.float32)
        _, drawing = synthesis.fit(scene, picture)
        before = synthesis.difference(synthesis.draw(scene), picture)
        assert synthesis.difference(drawing, picture) <= before + 0.01  # coarse rounds may give a little away


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_opacity_is_the_share_of_the_first_drawing_in_a_blend(share):
    there = synthesis.draw(Scene((car("wheels"),), "snow"))
    gone = synthesis.draw(Scene((car(),), "snow"))
    assert synthesis.opacity(share * there + (1 - share) * gone, there, gone) == pytest.approx(share, abs=1e-5)


def test_two_equal_drawings_leave_the_opacity_open():
    drawing = synthesis.draw(Scene((), "snow"))
    assert synthesis.opacity(drawing, drawing, drawing) == 0.5


def test_agreement_ignores_contrast_and_brightness_and_is_nothing_for_a_flat_picture():
    drawing = synthesis.draw(Scene((car("wheels"),), "grass"))
    assert synthesis.agreement(0.3 * drawing + 0.4, drawing) == pytest.approx(1, abs=1e-5)
    assert synthesis.agreement(np.full_like(drawing, 0.5), drawing) == 0
    assert abs(synthesis.agreement(np.random.default_rng(0).random(drawing.shape, dtype=np.float32), drawing)) < 0.1
