"""Training data: random scenes whose parts are missing as often as not, each drawn with and without some of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vsf.judges.scenes.network import COUNTS, SIDE, SLOTS
from vsf.judges.scenes.predictions import count_of, with_thing
from vsf.tiny.renderer import render
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES, Scene, Thing

# Probabilities that a scene has no thing, a loose part only, two things; that a thing has a part; that a scene is drawn
# a second time with some parts toggled.
_NOTHING = 0.04
_LOOSE = 0.15
_PAIRS = 0.2
_PART = 0.5
_TWINS = 0.5
_UNCLEAR = (0.35, 0.65)  # a part with an opacity in between is neither present nor absent, and is not trained on
Value = TypeVar("Value")


@dataclass(frozen=True)
class Sample:
    """A scene drawn twice, the second time with some parts toggled, or unchanged.

    Attributes:
        scene: The first of the two.
        images: Both drawings.
        parts: 1 for each part that is present, in each drawing.
    """

    scene: Scene
    images: UInt8[np.ndarray, "2 64 64 3"]
    parts: Float[np.ndarray, "2 slots parts"]


@dataclass(frozen=True)
class Targets:
    """The right outputs of the network for a batch: class numbers and values, and which of them are trained on."""

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


def sample(seed: int, index: int) -> Sample:
    """Draw sample `index` of the endless sequence with this seed; held-out combinations are trained on like others."""
    rng = random.Random(f"reader/{seed}/{index}")
    scene = _random_scene(rng)
    has_twin = bool(scene.things) and rng.random() < _TWINS
    twin = _toggled(scene, rng) if has_twin else scene
    first = np.asarray(render(scene, SIDE))
    second = first if twin is scene else np.asarray(render(twin, SIDE))
    return Sample(scene, np.stack([first, second]), np.stack([_parts(scene), _parts(twin)]))


def batch(samples: Sequence[Sample], rng: random.Random) -> tuple[Float[Tensor, "batch 3 64 64"], Targets]:
    """Blend the two drawings of each sample, so that each toggled part is present, absent, or in between.

    Returns:
        Images with values from 0 to 1, and their targets.
    """
    weights = []
    for _ in samples:
        weights.append(rng.choice((0.0, 1.0)) if rng.random() < 0.4 else rng.random())
    opacity = torch.tensor(weights)[:, None]
    drawings = torch.from_numpy(np.stack([sample.images for sample in samples])).float() / 255
    blended = drawings[:, 0].flatten(1) * (1 - opacity) + drawings[:, 1].flatten(1) * opacity
    images = blended.view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2)
    present = torch.from_numpy(np.stack([sample.parts for sample in samples])).float()
    parts = present[:, 0] * (1 - opacity[..., None]) + present[:, 1] * opacity[..., None]
    return images, _targets([sample.scene for sample in samples], parts)


def _random_scene(rng: random.Random) -> Scene:
    kind = rng.random()
    horizon = rng.uniform(0.6, 0.75)
    names = rng.sample(list(OBJECTS), 2)
    if kind < _NOTHING:
        things: tuple[Thing, ...] = ()
    elif kind < _NOTHING + _LOOSE:
        part = rng.choice(PARTS)
        owner = rng.choice([name for name, model in OBJECTS.items() if part in model.parts])
        x = rng.uniform(0.4, 0.6)
        size = rng.uniform(0.56, 0.84)
        things = (Thing(owner, frozenset({part}), rng.choice(list(COLOURS)), x, size, body=False),)
    elif kind < _NOTHING + _LOOSE + _PAIRS:
        placements = []
        for middle in (0.27, 0.73):
            x = middle + rng.uniform(-0.04, 0.04)
            placements.append((x, rng.uniform(0.39, 0.51)))
        things = tuple(_random_thing(name, placement, rng) for name, placement in zip(names, placements, strict=True))
    else:
        x = rng.uniform(0.38, 0.62)
        things = (_random_thing(names[0], (x, rng.uniform(0.56, 0.86)), rng),)
    return Scene(things, rng.choice(list(BACKGROUNDS)), rng.choice(STYLES), horizon)


def _random_thing(name: str, place: tuple[float, float], rng: random.Random) -> Thing:
    parts = frozenset(part for part in OBJECTS[name].parts if rng.random() < _PART)
    return Thing(name, parts, rng.choice(list(COLOURS)), *place)


def _toggled(scene: Scene, rng: random.Random) -> Scene:
    """Toggle at least one part of one thing; a scene with a loose part is left as it is."""
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    if not thing.body:
        return scene
    possible = OBJECTS[thing.object].parts
    toggled = {rng.choice(possible)}
    toggled |= {part for part in possible if rng.random() < 0.15}
    return with_thing(scene, index, replace(thing, parts=thing.parts ^ toggled))


def _parts(scene: Scene) -> Float[np.ndarray, "slots parts"]:
    present = np.zeros((SLOTS, len(PARTS)), np.float32)
    for slot, thing in enumerate(scene.things):
        for part in thing.parts:
            present[slot, PARTS.index(part)] = 1
    return present


def _targets(scenes: Sequence[Scene], parts: Float[Tensor, "batch slots parts"]) -> Targets:
    has_thing = _per_slot(scenes, lambda _: True, False)
    objects = list(OBJECTS)
    colours = list(COLOURS)
    backgrounds = list(BACKGROUNDS)
    scene_counts = []
    scene_backgrounds = []
    scene_styles = []
    horizons = []
    for scene in scenes:
        scene_counts.append(COUNTS.index(count_of(scene)))
        scene_backgrounds.append(backgrounds.index(scene.background))
        scene_styles.append(STYLES.index(scene.style))
        horizons.append(scene.horizon)
    is_clear = (parts < _UNCLEAR[0]) | (parts > _UNCLEAR[1])
    return Targets(
        counts=torch.tensor(scene_counts),
        objects=_per_slot(scenes, lambda thing: objects.index(thing.object), 0),
        colours=_per_slot(scenes, lambda thing: colours.index(thing.colour), 0),
        places=_per_slot(scenes, lambda thing: (thing.x, thing.size), (0.0, 0.0)),
        backgrounds=torch.tensor(scene_backgrounds),
        styles=torch.tensor(scene_styles),
        horizons=torch.tensor(horizons)[:, None],
        parts=parts,
        thing_counts=has_thing,
        colour_counts=_per_slot(scenes, lambda thing: thing.body, False),
        part_counts=is_clear & has_thing[..., None],
    )


def _per_slot(scenes: Sequence[Scene], value: Callable[[Thing], Value], default: Value) -> Tensor:
    """Collect a value of each thing, and the default for empty slots: a tensor of (batch, slots, ...)."""
    rows = []
    for scene in scenes:
        empty_slots = SLOTS - len(scene.things)
        rows.append([value(thing) for thing in scene.things] + [default] * empty_slots)
    return torch.tensor(rows)
