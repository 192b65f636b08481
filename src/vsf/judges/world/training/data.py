"""Training data: random scenes whose parts are missing as often as not, each drawn with and without some of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vsf.judges.world.detections import middle
from vsf.judges.world.network import CELLS, SIDE
from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS, PARTS
from vsf.tiny.world.places import PLACE_PARTS, PLACES
from vsf.tiny.world.renderer import render
from vsf.tiny.world.scenes import Scene, Thing, sample_scene
from vsf.tiny.world.styles import STYLES

# Probabilities that a scene has no thing; that a thing or place has a part; that a scene is drawn a second time with
# some parts toggled.
_NOTHING = 0.04
_PART = 0.5
_TWINS = 0.6
_UNCLEAR = (0.35, 0.65)  # a part with an opacity in between is neither present nor absent, and is not trained on


@dataclass(frozen=True)
class Sample:
    """A scene drawn twice, the second time with some parts toggled, or unchanged."""

    scene: Scene
    twin: Scene
    pictures: UInt8[np.ndarray, "2 128 128 3"]


@dataclass(frozen=True)
class Targets:
    """The right outputs of the network for a batch.

    Attributes:
        rows: For each thing of the batch, the picture that it is in.
        cells: For each thing, the number of the cell that its middle lies in.
        is_object: For each thing, 1 if it is an object and 0 if a part alone.
        objects: For each thing, the number of its object.
        colours: For each thing, the number of its colour.
        boxes: For each thing, x, y and size.
        parts: For each thing, the opacity of each part.
        parts_count: For each thing, which parts are trained on.
        places: For each picture, the number of its place.
        place_parts: For each picture, the opacity of each part of a place.
        place_parts_count: For each picture, which parts of places are trained on.
        styles: For each picture, the number of its style.
        horizon: For each picture, the height of its horizon.
    """

    rows: Int[Tensor, " things"]
    cells: Int[Tensor, " things"]
    is_object: Float[Tensor, " things"]
    objects: Int[Tensor, " things"]
    colours: Int[Tensor, " things"]
    boxes: Float[Tensor, "things 3"]
    parts: Float[Tensor, "things parts"]
    parts_count: Bool[Tensor, "things parts"]
    places: Int[Tensor, " batch"]
    place_parts: Float[Tensor, "batch place_parts"]
    place_parts_count: Bool[Tensor, "batch place_parts"]
    styles: Int[Tensor, " batch"]
    horizon: Float[Tensor, "batch 1"]


def sample(seed: int, index: int) -> Sample:
    """Draw sample `index` of the endless sequence with this seed."""
    rng = random.Random(f"reader/{seed}/{index}")
    scene = random_scene(rng)
    twin = _toggled(scene, rng) if rng.random() < _TWINS else scene
    pictures = [np.asarray(render(scene, SIDE)), np.asarray(render(twin, SIDE))]
    return Sample(scene, twin, np.stack(pictures))


def random_scene(rng: random.Random) -> Scene:
    """Draw a scene of the world's layouts in which nothing is usual: every part, colour, place and style alike.

    Held-out combinations are among them, because the judge has to read them as well as any other.
    """
    usual = sample_scene(rng, held_out=rng.random() < 0.5)
    has_stack = any(relation.kind == "on" for relation in usual.relations)
    things = []
    for thing in usual.things:
        # A stack stays as it is, since what stands on top would float if anything below it moved.
        things.append(_varied(thing, rng, may_move=not has_stack))
    if rng.random() < _NOTHING:
        things = []
    place = rng.choice(list(PLACES))
    place_parts = frozenset(part for part in PLACES[place].parts if rng.random() < _PART)
    relations = usual.relations if things else ()
    return Scene(tuple(things), place, place_parts, relations, rng.choice(list(STYLES)), rng.uniform(0.61, 0.74))


def batch(samples: Sequence[Sample], rng: random.Random) -> tuple[Float[Tensor, "batch 3 128 128"], Targets]:
    """Blend the two drawings of each sample, so that each toggled part is present, absent, or in between.

    Returns:
        Pictures with values from 0 to 1, and their targets.
    """
    shares = []
    for _ in samples:
        shares.append(rng.choice((0.0, 1.0)) if rng.random() < 0.4 else rng.random())
    drawings = torch.from_numpy(np.stack([sample.pictures for sample in samples])).float() / 255
    of_twin = torch.tensor(shares)[:, None, None, None]
    pictures = torch.lerp(drawings[:, 0], drawings[:, 1], of_twin).permute(0, 3, 1, 2)
    return pictures, _targets(samples, shares)


def _varied(thing: Thing, rng: random.Random, *, may_move: bool) -> Thing:
    colour = rng.choice(list(COLOURS))
    if thing.body:
        parts = frozenset(part for part in OBJECTS[thing.object].parts if rng.random() < _PART)
        thing = replace(thing, parts=parts)
    if may_move:
        thing = replace(thing, x=thing.x + rng.uniform(-0.04, 0.04), size=thing.size * rng.uniform(0.9, 1.1))
    return replace(thing, colour=colour)


def _toggled(scene: Scene, rng: random.Random) -> Scene:
    """Toggle at least one part of one thing or of the place."""
    bodies = [index for index, thing in enumerate(scene.things) if thing.body]
    if not bodies or rng.random() < 0.25:
        return replace(scene, place_parts=scene.place_parts ^ _some(PLACES[scene.place].parts, rng))
    index = rng.choice(bodies)
    thing = scene.things[index]
    return scene.with_thing(index, replace(thing, parts=thing.parts ^ _some(OBJECTS[thing.object].parts, rng)))


def _some(parts: Sequence[str], rng: random.Random) -> frozenset[str]:
    """Choose one of the parts, and now and then some of the others."""
    return frozenset({rng.choice(parts), *(part for part in parts if rng.random() < 0.15)})


def _targets(samples: Sequence[Sample], shares: Sequence[float]) -> Targets:
    objects = list(OBJECTS)
    colours = list(COLOURS)
    of_things: dict[str, list[object]] = {
        "rows": [],
        "cells": [],
        "is_object": [],
        "objects": [],
        "colours": [],
        "boxes": [],
    }
    parts = []
    parts_count = []
    for row, (sample, share) in enumerate(zip(samples, shares, strict=True)):
        for thing, twin in zip(sample.scene.things, sample.twin.things, strict=True):
            x, y = middle(thing, sample.scene.horizon)
            of_things["rows"].append(row)
            of_things["cells"].append(_cell(y) * CELLS + _cell(x))
            of_things["is_object"].append(float(thing.body))
            of_things["objects"].append(objects.index(thing.object))
            of_things["colours"].append(colours.index(thing.colour))
            of_things["boxes"].append((x, y, thing.size))
            parts.append(_opacities(PARTS, thing.parts, twin.parts, share))
            # Of an object only its own parts are ever asked for; of a part alone nothing else is known.
            parts_count.append(_are_among(PARTS, OBJECTS[thing.object].parts if thing.body else PARTS))
    place_parts = []
    place_parts_count = []
    for sample, share in zip(samples, shares, strict=True):
        place_parts.append(_opacities(PLACE_PARTS, sample.scene.place_parts, sample.twin.place_parts, share))
        place_parts_count.append(_are_among(PLACE_PARTS, PLACES[sample.scene.place].parts))
    opacities = torch.tensor(parts).reshape(-1, len(PARTS))
    place_opacities = torch.tensor(place_parts)
    scenes = [sample.scene for sample in samples]
    return Targets(
        rows=torch.tensor(of_things["rows"], dtype=torch.long),
        cells=torch.tensor(of_things["cells"], dtype=torch.long),
        is_object=torch.tensor(of_things["is_object"]),
        objects=torch.tensor(of_things["objects"], dtype=torch.long),
        colours=torch.tensor(of_things["colours"], dtype=torch.long),
        boxes=torch.tensor(of_things["boxes"]).reshape(-1, 3),
        parts=opacities,
        parts_count=_is_clear(opacities) & torch.tensor(parts_count, dtype=torch.bool).reshape(-1, len(PARTS)),
        places=torch.tensor([list(PLACES).index(scene.place) for scene in scenes]),
        place_parts=place_opacities,
        place_parts_count=_is_clear(place_opacities) & torch.tensor(place_parts_count),
        styles=torch.tensor([list(STYLES).index(scene.style) for scene in scenes]),
        horizon=torch.tensor([scene.horizon for scene in scenes])[:, None],
    )


def _cell(coordinate: float) -> int:
    return min(max(int(coordinate * CELLS), 0), CELLS - 1)


def _opacities(names: Sequence[str], first: frozenset[str], second: frozenset[str], share: float) -> list[float]:
    """Return how much of each part is seen in a blend that has this share of the second drawing."""
    return [(name in first) * (1 - share) + (name in second) * share for name in names]


def _are_among(names: Sequence[str], chosen: Sequence[str]) -> list[bool]:
    return [name in chosen for name in names]


def _is_clear(opacities: Tensor) -> Tensor:
    return (opacities < _UNCLEAR[0]) | (opacities > _UNCLEAR[1])
