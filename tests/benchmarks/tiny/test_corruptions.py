"""Corruption to pictures comes in degrees and is the same every time."""

import random

import numpy as np
import pytest

from corruptions import CORRUPTIONS
from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene, Thing, sample_scene

SCENE = Scene((Thing("house", frozenset({"roof", "door"}), "red", 0.5, 0.7),), "grass")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_takes_the_picture_further_away(name):
    image = render(SCENE)
    pixels = np.asarray(image, float)
    away = [
        np.abs(np.asarray(CORRUPTIONS[name].apply(image, SCENE, level, 0), float) - pixels).mean()
        for level in (0.0, *CORRUPTIONS[name].levels)
    ]
    assert away == sorted(away)
    assert away[1] > away[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_is_the_same_every_time(name):
    scene = sample_scene(random.Random(0))
    image, damage = render(scene), CORRUPTIONS[name]
    first, second = (damage.apply(image, scene, damage.levels[1], 5) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_a_full_shuffle_keeps_every_pixel_and_moves_every_patch():
    image = render(SCENE)
    shuffled = CORRUPTIONS["patch shuffle"].apply(image, SCENE, 1.0, 0)
    assert sorted(image.getdata()) == sorted(shuffled.getdata())
    moved = np.asarray(image) != np.asarray(shuffled)
    assert moved.reshape(8, 8, 8, 8, 3).any(axis=(1, 3, 4)).mean() > 0.8  # equal sky patches may trade places


def test_an_erased_half_shows_what_is_behind_and_nothing_else_changes():
    image, empty = render(SCENE), render(Scene((), "grass"))
    erased = np.asarray(CORRUPTIONS["half-erased"].apply(image, SCENE, 0.5, 0))
    assert np.array_equal(erased[:, 11:31], np.asarray(empty)[:, 11:31])
    assert np.array_equal(erased[:, 33:], np.asarray(image)[:, 33:])
