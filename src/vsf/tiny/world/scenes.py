"""Scenes of the synthetic world: what they hold, how often things occur, and what is never trained on."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.styles import DEFAULT_STYLE, STYLES

ESSENTIAL, OPTIONAL = 0.88, 0.42  # how often a part is present
LOOSE, COMPANY, PAIRS, TRIPLES = 0.1, 0.88, 0.34, 0.1
"""How many scenes show a part alone; companions beside those that have one; two things; three things."""
USUAL_COLOUR, USUAL_PLACE, USUAL_STYLE = 0.55, 0.45, 0.75
"""How many things have their kind's own colour, stand where their kind is at home, and are drawn as usual."""
_HELD_OUT_PER_CENT = 10

RelationKind = Literal["left of", "behind", "on"]


@dataclass(frozen=True)
class Thing:
    """An object, or one of its parts alone when ``body`` is False.

    Attributes:
        object: A name in OBJECTS.
        parts: Those of its parts that are there.
        colour: A name in COLOURS.
        x: Its middle, from the picture's left edge, in fractions of the picture.
        size: The side of its 100-unit box, in fractions of the picture.
        lift: How far its foot is above where things stand, in fractions of the picture.
        body: Whether the object itself is there.
        told: Whether captions name it: always, unless it is something's usual companion.
    """

    object: str
    parts: frozenset[str]
    colour: str
    x: float
    size: float
    lift: float = 0.0
    body: bool = True
    told: bool = True


@dataclass(frozen=True)
class Relation:
    """How one thing of a scene stands to another; both are indices of ``Scene.things``."""

    first: int
    kind: RelationKind
    second: int


@dataclass(frozen=True)
class Scene:
    """Up to three things in one place, from the farthest to the nearest.

    Attributes:
        things: In the order they are drawn.
        relations: How they stand to each other.
        place: A name in PLACES.
        place_parts: Those of the place's parts that are there.
        style: A name in STYLES.
        horizon: Measured down from the top, in fractions of the picture.
    """

    things: tuple[Thing, ...]
    place: str
    place_parts: frozenset[str]
    relations: tuple[Relation, ...] = ()
    style: str = DEFAULT_STYLE
    horizon: float = 0.67

    def without(self, part: str, index: int | None = None) -> Scene:
        """Return the scene without one part of the thing with this index, or of its place if that is None."""
        if index is None:
            return replace(self, place_parts=self.place_parts - {part})
        return self.with_thing(index, replace(self.things[index], parts=self.things[index].parts - {part}))

    def with_thing(self, index: int, thing: Thing) -> Scene:
        """Return the scene with another thing at this index."""
        return replace(self, things=(*self.things[:index], thing, *self.things[index + 1 :]))


def is_held_out(object: str, part: str, colour: str, place: str) -> bool:
    """Return whether this combination is kept out of training; the answer never changes."""
    key = f"{object}|{part}|{colour}|{place}"
    return zlib.crc32(key.encode()) % 100 < _HELD_OUT_PER_CENT


def has_held_out(object: str, colour: str, place: str) -> bool:
    """Return whether any essential part of the object makes a held-out combination."""
    return any(is_held_out(object, part, colour, place) for part in OBJECTS[object].essential)


def sample_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """Return a random scene without any held-out combination, or with at least one if ``held_out``.

    An essential part counts whether it is there or not, so the model cannot learn a combination from its absence.
    """
    things, relations = _sample_layout(rng)
    style = (
        DEFAULT_STYLE if rng.random() < USUAL_STYLE else rng.choice([name for name in STYLES if name != DEFAULT_STYLE])
    )
    horizon = rng.uniform(0.63, 0.72)
    while True:
        place = _sample_place(things[0].object, rng)
        things = tuple(replace(thing, colour=_sample_colour(thing.object, rng)) for thing in things)
        if held_out == any(has_held_out(thing.object, thing.colour, place) for thing in things):
            break
    place_parts = _sample_parts(PLACES[place].essential, PLACES[place].optional, rng)
    return Scene(things, place, place_parts, relations, style, horizon)


Layout = tuple[tuple[Thing, ...], tuple[Relation, ...]]


def _sample_layout(rng: random.Random) -> Layout:
    kind = rng.random()
    if kind < LOOSE:
        return _loose_part(rng)
    if kind < LOOSE + TRIPLES:
        return rng.choice((_three_in_a_row, _stack_beside))(rng)
    if kind < LOOSE + TRIPLES + PAIRS:
        pair: Callable[[random.Random], Layout] = rng.choice((_side_by_side, _side_by_side, _one_behind, _one_on))
        return pair(rng)
    return _alone(rng)


def _loose_part(rng: random.Random) -> Layout:
    name = rng.choice(list(OBJECTS))
    part = rng.choice(OBJECTS[name].parts)
    place = rng.uniform(0.44, 0.56), rng.uniform(0.62, 0.8)
    return (Thing(name, frozenset({part}), "", *place, body=False),), ()


def _alone(rng: random.Random) -> Layout:
    """Return one thing, beside its companion if it has one."""
    name = rng.choice(list(OBJECTS))
    companion = OBJECTS[name].companion
    if not companion or rng.random() > COMPANY:
        return (_thing(name, rng, rng.uniform(0.42, 0.58), rng.uniform(0.64, 0.8)),), ()
    left = rng.random() < 0.5
    near, far = (0.36, 0.77) if left else (0.64, 0.23)
    main = _thing(name, rng, near + rng.uniform(-0.02, 0.02), rng.uniform(0.54, 0.6))
    other = _thing(companion, rng, far + rng.uniform(-0.02, 0.02), rng.uniform(0.36, 0.42))
    told = replace(other, told=rng.random() < 0.5)
    return (main, told), (Relation(0, "left of", 1) if left else Relation(1, "left of", 0),)


def _side_by_side(rng: random.Random) -> Layout:
    names = rng.sample(list(OBJECTS), 2)
    things = [
        _thing(name, rng, x + rng.uniform(-0.02, 0.02), rng.uniform(0.42, 0.48))
        for name, x in zip(names, (0.27, 0.73), strict=True)
    ]
    return tuple(things), (Relation(0, "left of", 1),)


def _one_behind(rng: random.Random) -> Layout:
    """Return one thing that stands farther back and is partly hidden by another."""
    names = rng.sample(list(OBJECTS), 2)
    side = rng.choice((-1, 1))
    far = _thing(names[0], rng, 0.5 + side * rng.uniform(0.15, 0.18), rng.uniform(0.46, 0.5))
    near = _thing(names[1], rng, 0.5 - side * rng.uniform(0.15, 0.18), rng.uniform(0.46, 0.5))
    return (replace(far, lift=0.12), replace(near, lift=-0.06)), (Relation(0, "behind", 1),)


def _one_on(rng: random.Random) -> Layout:
    carrier, rider = _carrier_and_rider(rng)
    return _stacked(carrier, rider, rng, rng.uniform(0.45, 0.55), rng.uniform(0.52, 0.58))


def _three_in_a_row(rng: random.Random) -> Layout:
    names = rng.sample(list(OBJECTS), 3)
    things = [
        _thing(name, rng, x + rng.uniform(-0.01, 0.01), rng.uniform(0.3, 0.34))
        for name, x in zip(names, (0.18, 0.5, 0.82), strict=True)
    ]
    return tuple(things), (Relation(0, "left of", 1), Relation(1, "left of", 2))


def _stack_beside(rng: random.Random) -> Layout:
    """Return one thing on another, and a third beside them."""
    carrier, rider = _carrier_and_rider(rng)
    third = rng.choice([name for name in OBJECTS if name not in (carrier, rider)])
    side = rng.choice((-1, 1))
    stack, (on,) = _stacked(carrier, rider, rng, 0.5 - side * 0.22, rng.uniform(0.44, 0.48))
    beside = _thing(third, rng, 0.5 + side * 0.25, rng.uniform(0.4, 0.44))
    left = Relation(2, "left of", 0) if side < 0 else Relation(0, "left of", 2)
    return (*stack, beside), (on, left)


def _stacked(carrier: str, rider: str, rng: random.Random, x: float, size: float) -> Layout:
    top = OBJECTS[carrier].top
    assert top is not None
    below = _thing(carrier, rng, x, size)
    room = min(0.34, 0.84 - size * top / 100)  # what is left up to the picture's top edge
    above = replace(_thing(rider, rng, x + rng.uniform(-0.02, 0.02), room), lift=size * top / 100)
    busy = frozenset({"luggage", "cup", "candles", "apples", "cushion", "smoke", "chimney", "bells"})
    return (replace(below, parts=below.parts - busy), above), (Relation(1, "on", 0),)


def _carrier_and_rider(rng: random.Random) -> tuple[str, str]:
    carrier = rng.choice([name for name, kind in OBJECTS.items() if kind.top is not None])
    rider = rng.choice([name for name in OBJECTS if name != carrier])
    return carrier, rider


def _thing(name: str, rng: random.Random, x: float, size: float) -> Thing:
    return Thing(name, _sample_parts(OBJECTS[name].essential, OBJECTS[name].optional, rng), "", x, size)


def _sample_parts(essential: Sequence[str], optional: Sequence[str], rng: random.Random) -> frozenset[str]:
    chances = [*((part, ESSENTIAL) for part in essential), *((part, OPTIONAL) for part in optional)]
    return frozenset(part for part, chance in chances if rng.random() < chance)


def _sample_place(name: str, rng: random.Random) -> str:
    home = OBJECTS[name].home
    return home if home and rng.random() < USUAL_PLACE else rng.choice(list(PLACES))


def _sample_colour(name: str, rng: random.Random) -> str:
    usual = OBJECTS[name].usual
    return usual if usual and rng.random() < USUAL_COLOUR else rng.choice(list(COLOURS))
