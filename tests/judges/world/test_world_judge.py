"""The judge of the world, given a network that is right: from its scores back to the scene that was drawn."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vsf.judges.scenes.quality import draw
from vsf.judges.world.detections import detections, middle, relations
from vsf.judges.world.fit import fit
from vsf.judges.world.judge import look
from vsf.judges.world.network import CELLS, Reader, Scores
from vsf.judges.world.training.data import Sample, batch, random_scene, sample
from vsf.judges.world.training.train import loss
from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS, PARTS
from vsf.tiny.world.places import PLACE_PARTS, PLACES
from vsf.tiny.world.renderer import render
from vsf.tiny.world.scenes import Scene, Thing
from vsf.tiny.world.styles import STYLES

SURE = 8.0


def one_hot(names, chosen):
    return torch.tensor([SURE if name in chosen else -SURE for name in names])


def scores_of(scene, shift=0.0):
    """What a network says that is right about everything, but `shift` off about where things are."""
    of_cells = {name: torch.full((1, size, CELLS, CELLS), -SURE) for name, size in SIZES.items()}
    for thing in scene.things:
        x, y = middle(thing, scene.horizon)
        cell = (0, slice(None), int(y * CELLS), int(x * CELLS))
        of_cells["centre"][cell] = SURE
        of_cells["is_object"][cell] = SURE if thing.body else -SURE
        of_cells["objects"][cell] = one_hot(OBJECTS, {thing.object})
        of_cells["colours"][cell] = one_hot(COLOURS, {thing.colour})
        of_cells["parts"][cell] = one_hot(PARTS, thing.parts)
        of_cells["boxes"][cell] = torch.tensor([x + shift, y - shift, thing.size + shift])
    return Scores(
        **of_cells,
        places=one_hot(PLACES, {scene.place})[None],
        place_parts=one_hot(PLACE_PARTS, scene.place_parts)[None],
        styles=one_hot(STYLES, {scene.style})[None],
        horizon=torch.tensor([[scene.horizon + shift]]),
    )


SIZES = {
    "centre": 1,
    "is_object": 1,
    "objects": len(OBJECTS),
    "colours": len(COLOURS),
    "parts": len(PARTS),
    "boxes": 3,
}


def scenes(count):
    rng = random.Random(5)
    return [random_scene(rng) for _ in range(count)]


def facts(scene):
    return sorted((thing.object, thing.colour if thing.body else "", thing.body) for thing in scene.things)


@pytest.mark.parametrize("scene", scenes(24))
def test_right_scores_are_the_scene(scene):
    (seen,) = detections(scores_of(scene))
    read = seen.scene()
    assert (read.place, read.place_parts, read.style) == (scene.place, scene.place_parts, scene.style)
    assert facts(read) == facts(scene)
    on = {(scene.things[r.first].object, scene.things[r.second].object) for r in scene.relations if r.kind == "on"}
    assert {(read.things[r.first].object, read.things[r.second].object) for r in read.relations} == on
    np.testing.assert_allclose(draw(read), draw(scene), atol=0.02)


def test_a_scene_is_moved_onto_its_picture():
    scene = Scene((Thing("cat", frozenset({"eyes", "tail"}), "orange", 0.48, 0.7),), "grass", frozenset({"sun"}))
    start = replace(scene, things=(replace(scene.things[0], x=0.52, size=0.66, lift=0.02),), horizon=0.65)
    fitted = fit(start, draw(scene))
    assert np.abs(draw(fitted) - draw(scene)).mean() < 0.1 * np.abs(draw(start) - draw(scene)).mean()


def test_scenes_are_read_from_scores_that_are_a_little_off_and_parts_from_the_picture():
    """The network here is unsure of every part of an object or place, so that only the picture tells."""
    right = 0
    asked = 0
    qualities = []
    for scene in scenes(16):
        off = scores_of(scene, shift=0.012)
        knows_parts = off.is_object < 0  # those that are alone
        unsure = replace(off, parts=off.parts * knows_parts, place_parts=off.place_parts * 0)
        (reading,) = look([render(scene)], lambda pictures, unsure=unsure: unsure)
        assert reading.scene is not None
        assert facts(reading.scene) == facts(scene)
        qualities.append(reading.quality)
        for thing in scene.things:
            if thing.body:
                read = next(each for each in reading.scene.things if each.object == thing.object)
                kinds = OBJECTS[thing.object].parts
                asked += len(kinds)
                right += sum((part in read.parts) == (part in thing.parts) for part in kinds)
    assert right / asked > 0.9
    assert np.mean(qualities) > 0.85


def test_a_thing_that_the_network_imagines_is_not_seen():
    scene = Scene((Thing("cat", frozenset({"eyes", "tail"}), "orange", 0.3, 0.45),), "grass", frozenset())
    imagined = replace(scene, things=(*scene.things, Thing("dog", frozenset({"ears"}), "blue", 0.75, 0.45)))
    (reading,) = look([render(scene)], lambda pictures: scores_of(imagined))
    assert [thing.object for thing in reading.scene.things] == ["cat"]


@pytest.mark.parametrize("strange", ["noise", "gradient", "upside down"])
def test_strangers_are_unreadable(strange):
    scene = Scene((Thing("house", frozenset({"roof", "door"}), "red", 0.5, 0.7),), "snow", frozenset())
    pictures = {
        "noise": Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)),
        "gradient": Image.linear_gradient("L").resize((128, 128)).rotate(90).convert("RGB"),
        "upside down": render(scene).rotate(180),
    }
    (reading,) = look([pictures[strange]], lambda pictures: scores_of(scene))
    assert reading.scene is None
    assert reading.quality is None


def test_nothing_to_read_is_read_as_nothing():
    assert look([], Reader()) == []


def test_what_stands_on_another_is_told_by_its_place():
    carrier = Thing("car", frozenset(), "red", 0.5, 0.5)
    rider = Thing("cat", frozenset(), "blue", 0.52, 0.3, lift=0.33)
    beside = Thing("dog", frozenset(), "blue", 0.9, 0.3, lift=0.33)
    assert [(r.first, r.kind, r.second) for r in relations([carrier, rider])] == [(1, "on", 0)]
    assert relations([carrier, beside]) == ()


def test_targets_are_of_the_blend_of_both_drawings():
    scene = Scene((Thing("cat", frozenset({"eyes"}), "orange", 0.5, 0.7),), "grass", frozenset({"sun"}))
    twin = scene.with_thing(0, replace(scene.things[0], parts=frozenset({"tail"})))
    drawn = np.stack([np.asarray(render(scene)), np.asarray(render(twin))])
    rng = random.Random(1)
    pictures, targets = batch([Sample(scene, twin, drawn)] * 40, rng)
    share = targets.parts[:, PARTS.index("tail")]
    torch.testing.assert_close(targets.parts[:, PARTS.index("eyes")], 1 - share)
    expected = torch.lerp(torch.from_numpy(drawn[0] / 255.0), torch.from_numpy(drawn[1] / 255.0), float(share[0]))
    torch.testing.assert_close(pictures[0].permute(1, 2, 0).double(), expected, atol=1e-6, rtol=0)
    unclear = (share >= 0.35) & (share <= 0.65)
    assert unclear.any()
    assert torch.equal(targets.parts_count[:, PARTS.index("tail")], ~unclear)
    assert not targets.parts_count[:, PARTS.index("sail")].any()


def test_right_scores_lose_less_than_wrong_ones_and_training_lowers_the_loss():
    torch.manual_seed(0)
    samples = [sample(0, index) for index in range(8)]
    pictures, targets = batch(samples, random.Random(0))
    reader = Reader()
    optimizer = torch.optim.Adam(reader.parameters(), 2e-3)
    losses = []
    for _ in range(16):
        value = loss(reader(pictures), targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.75 * losses[0]
    scenes_alone = [replace(each, twin=each.scene, pictures=each.pictures[[0, 0]]) for each in samples]
    _, exact = batch(scenes_alone, random.Random(0))
    rights = [scores_of(each.scene) for each in scenes_alone]
    names = Scores.__dataclass_fields__
    right = Scores(**{name: torch.cat([getattr(scores, name) for scores in rights]) for name in names})
    assert loss(right, exact) < 0.2 < loss(reader(pictures), exact)
