"""Quality neither rises nor falls when a part vanishes, and it sees sharpness."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from vsf.judges.scenes.quality import HALVING, crispness, draw, fixed_pixels, quality
from vsf.judges.scenes.training.corruptions import blur, noise, shrink, smear
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.scenes import Scene, Thing, sample_scene

DAMAGES = {
    "blur": lambda images: blur(images, 1.2),
    "smear": lambda images: smear(images, 2.0),
    "noise": lambda images: noise(images, 0.08),
    "shrink": lambda images: shrink(images, 48),
}


def damaged(pictures, damage):
    torch.manual_seed(1)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return damage(images).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def scenes():
    """Scenes of one thing that has at least four parts."""
    rng = random.Random(0)
    drawn = (sample_scene(rng) for _ in range(400))
    wanted = [one for one in drawn if len(one.things) == 1 and one.things[0].body]
    return [one for one in wanted if len(OBJECTS[one.things[0].object].parts) >= 4][:30]


def with_parts(scene, count):
    (thing,) = scene.things
    order = sorted(OBJECTS[thing.object].parts)
    random.Random(thing.object).shuffle(order)
    return replace(scene, things=(replace(thing, parts=frozenset(order[:count])),))


@pytest.mark.parametrize("name", list(DAMAGES))
def test_the_same_damage_scores_the_same_with_none_to_four_parts(scenes, name):
    means, of_all_pixels = [], []
    for count in range(5):
        shown = [with_parts(scene, count) for scene in scenes]
        drawings = [draw(scene) for scene in shown]
        pictures = damaged(drawings, DAMAGES[name])
        means.append(np.mean([quality(picture, scene) for picture, scene in zip(pictures, shown, strict=True)]))
        errors = [np.sqrt(np.square(a - b).mean()) for a, b in zip(pictures, drawings, strict=True)]
        of_all_pixels.append(np.mean(np.power(2, -np.array(errors) / HALVING)))
    assert np.ptp(means) <= 0.015
    assert min(means) > 0.2
    assert max(means) < 0.8
    if name != "noise":  # which hurts flat pixels as much as edges
        assert np.ptp(of_all_pixels) > 0.06, "what the choice of pixels is for"


def test_taking_parts_of_the_place_away_changes_no_score_either():
    rng = random.Random(2)
    scenes = [replace(sample_scene(rng), style="tidy") for _ in range(30)]
    means = []
    for parts in (frozenset(), None):
        shown = [
            replace(one, place_parts=frozenset(PLACES[one.place].parts) if parts is None else parts) for one in scenes
        ]
        pictures = damaged([draw(scene) for scene in shown], DAMAGES["smear"])
        means.append(np.mean([quality(picture, scene) for picture, scene in zip(pictures, shown, strict=True)]))
    assert abs(means[0] - means[1]) <= 0.015


def test_a_render_is_perfect_and_the_pixels_of_parts_do_not_count(scenes):
    for scene in scenes[:8]:
        assert quality(draw(scene), scene) == 1
        (thing,) = scene.things
        others = replace(scene, things=(replace(thing, parts=frozenset()),), place_parts=frozenset())
        assert quality(draw(scene), others) == pytest.approx(1, abs=1e-6), "another number of parts is no flaw"


def test_enough_pixels_are_left_to_compare(scenes):
    shares = [fixed_pixels(scene).mean() for scene in scenes]
    assert np.mean(shares) > 0.4
    assert min(shares) * 128**2 > 2000, "a car on a road between towers leaves least"


@pytest.mark.parametrize("size", [64, 128])
def test_the_softer_a_picture_is_the_lower_its_crispness_and_quality(scenes, size):
    drawings = [draw(scene, size) for scene in scenes[:10]]
    scores = []
    for sigma in (0.4, 0.7, 1.0, 1.6, 2.5):
        pictures = damaged(drawings, lambda images, sigma=sigma: blur(images, sigma))
        fixed = [fixed_pixels(scene, size) for scene in scenes[:10]]
        crisp = np.mean([crispness(*one) for one in zip(pictures, drawings, fixed, strict=True)])
        scores.append((crisp, np.mean([quality(*one) for one in zip(pictures, scenes[:10], strict=True)])))
    for softer, crisper in zip(scores[1:], scores, strict=False):
        assert softer[0] < crisper[0] - 0.03
        assert softer[1] < crisper[1]


def test_a_crisp_edge_off_its_place_is_crisp_but_costs_quality(scenes):
    scene = scenes[0]
    drawing, fixed = draw(scene), fixed_pixels(scene)
    moved = np.roll(drawing, 1, axis=1)
    assert crispness(moved, drawing, fixed) > 0.95
    assert quality(moved, scene) < 0.9
    soft = damaged([drawing], lambda images: blur(images, 1.2))[0]
    assert crispness(soft, drawing, fixed) < 0.6


def test_a_scene_that_is_meant_to_be_blurry_is_compared_with_a_blurry_drawing():
    thing = Thing("car", frozenset(OBJECTS["car"].parts), "red", 0.5, 0.7)
    tidy = Scene((thing,), "grass", frozenset({"clouds"}))
    blurry = replace(tidy, style="blurry")
    assert quality(draw(blurry), blurry) == 1
    assert quality(draw(blurry), tidy) < 0.5


def test_a_loose_part_is_the_thing_itself_and_stays_compared():
    loose = Scene((Thing("car", frozenset({"wheels"}), "red", 0.5, 0.7, body=False),), "snow", frozenset())
    gone = draw(replace(loose, things=()))
    assert quality(draw(loose), loose) == 1
    assert quality(gone, loose) < 0.5
