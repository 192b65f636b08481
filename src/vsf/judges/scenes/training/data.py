"""What the reader learns from: scenes with parts missing as often as not, drawn with and without some of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vsf.judges.scenes.network import COUNTS, SIDE, SLOTS
from vsf.judges.scenes.predictions import count_of, with_thing
from vsf.tiny.renderer import render
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES, Scene, Thing

_NOTHING, _LOOSE, _PAIRS = 0.04, 0.15, 0.2  # how many scenes show no thing, a part alone, two things
_PART = 0.5
_TWINS = 0.5  # how many scenes are also drawn with some parts toggled
_UNCLEAR = (0.35, 0.65)  # a part this opaque is neither there nor gone, and teaches nothing


@dataclass(frozen=True)
class Lesson:
    """A scene drawn twice, the second time with some parts toggled or, mostly, just the same."""

    scene: Scene
    images: UInt8[np.ndarray, "2 64 64 3"]
    parts: Float[np.ndarray, "2 slots parts"]


@dataclass(frozen=True)
class Truth:
    """What the reader should say of a batch: class numbers, and which of its answers count at all."""

    counts: Int[Tensor, " batch"]
    objects: Int[Tensor, "batch slots"]
    colours: Int[Tensor, "batch slots"]
    places: Float[Tensor, "batch slots 2"]
    backgrounds: Int[Tensor, " batch"]
    styles: Int[Tensor, " batch"]
    horizons: Float[Tensor, "batch 1"]
    parts: Float[Tensor, "batch slots parts"]  # opacity
    thing_counts: Bool[Tensor, "batch slots"]
    colour_counts: Bool[Tensor, "batch slots"]
    part_counts: Bool[Tensor, "batch slots parts"]


def lesson(seed: int, index: int) -> Lesson:
    """Lesson `index` of the endless course with this seed; held-out combinations are taught like any other."""
    rng = random.Random(f"reader/{seed}/{index}")
    scene = _sample(rng)
    twin = _toggled(scene, rng) if scene.things and rng.random() < _TWINS else scene
    first = np.asarray(render(scene, SIDE))
    second = first if twin is scene else np.asarray(render(twin, SIDE))
    return Lesson(scene, np.stack([first, second]), np.stack([_parts(scene), _parts(twin)]))


def batch(lessons: list[Lesson], rng: random.Random) -> tuple[Float[Tensor, "batch 3 64 64"], Truth]:
    """Images (0 to 1) in which each toggled part is there, gone or in between, and the truth about them."""
    shares = [rng.choice((0.0, 1.0)) if rng.random() < 0.4 else rng.random() for _ in lessons]
    opacity = torch.tensor(shares)[:, None]
    pairs = torch.from_numpy(np.stack([one.images for one in lessons])).float() / 255
    images = (pairs[:, 0].flatten(1) * (1 - opacity) + pairs[:, 1].flatten(1) * opacity).view(-1, SIDE, SIDE, 3)
    both = torch.from_numpy(np.stack([one.parts for one in lessons])).float()
    parts = both[:, 0] * (1 - opacity[..., None]) + both[:, 1] * opacity[..., None]
    return images.permute(0, 3, 1, 2), _truth([one.scene for one in lessons], parts)


def _sample(rng: random.Random) -> Scene:
    kind, horizon = rng.random(), rng.uniform(0.6, 0.75)
    names = rng.sample(list(OBJECTS), 2)
    if kind < _NOTHING:
        things: tuple[Thing, ...] = ()
    elif kind < _NOTHING + _LOOSE:
        part = rng.choice(PARTS)
        owner = rng.choice([name for name, kind in OBJECTS.items() if part in kind.parts])
        place = rng.uniform(0.4, 0.6), rng.uniform(0.56, 0.84)
        things = (Thing(owner, frozenset({part}), rng.choice(list(COLOURS)), *place, body=False),)
    elif kind < _NOTHING + _LOOSE + _PAIRS:
        places = [(middle + rng.uniform(-0.04, 0.04), rng.uniform(0.39, 0.51)) for middle in (0.27, 0.73)]
        things = tuple(_thing(name, place, rng) for name, place in zip(names, places, strict=True))
    else:
        things = (_thing(names[0], (rng.uniform(0.38, 0.62), rng.uniform(0.56, 0.86)), rng),)
    return Scene(things, rng.choice(list(BACKGROUNDS)), rng.choice(STYLES), horizon)


def _thing(name: str, place: tuple[float, float], rng: random.Random) -> Thing:
    parts = frozenset(part for part in OBJECTS[name].parts if rng.random() < _PART)
    return Thing(name, parts, rng.choice(list(COLOURS)), *place)


def _toggled(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one part of one thing, or several, there instead of gone or gone instead of there."""
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    if not thing.body:
        return scene
    known = OBJECTS[thing.object].parts
    chosen = {rng.choice(known)} | {part for part in known if rng.random() < 0.15}
    return with_thing(scene, index, replace(thing, parts=thing.parts ^ chosen))


def _parts(scene: Scene) -> Float[np.ndarray, "slots parts"]:
    marks = np.zeros((SLOTS, len(PARTS)), np.float32)
    for slot, thing in enumerate(scene.things):
        for part in thing.parts:
            marks[slot, PARTS.index(part)] = 1
    return marks


def _truth(scenes: list[Scene], parts: Float[Tensor, "batch slots parts"]) -> Truth:
    def per_thing(value: object, default: object) -> list[list[object]]:
        assert callable(value)
        return [[*map(value, scene.things), *[default] * (SLOTS - len(scene.things))] for scene in scenes]

    there = torch.tensor(per_thing(lambda _: True, False))
    objects, colours = list(OBJECTS), list(COLOURS)
    clear = (parts < _UNCLEAR[0]) | (parts > _UNCLEAR[1])
    return Truth(
        counts=torch.tensor([COUNTS.index(count_of(scene)) for scene in scenes]),
        objects=torch.tensor(per_thing(lambda thing: objects.index(thing.object), 0)),
        colours=torch.tensor(per_thing(lambda thing: colours.index(thing.colour), 0)),
        places=torch.tensor(per_thing(lambda thing: (thing.x, thing.size), (0.0, 0.0))),
        backgrounds=torch.tensor([list(BACKGROUNDS).index(scene.background) for scene in scenes]),
        styles=torch.tensor([STYLES.index(scene.style) for scene in scenes]),
        horizons=torch.tensor([[scene.horizon] for scene in scenes]),
        parts=parts,
        thing_counts=there,
        colour_counts=torch.tensor(per_thing(lambda thing: thing.body, False)),
        part_counts=clear & there[..., None],
    )
