"""Synthetic scenes: their contents, how often things occur, and the combinations that are kept out of training."""

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

# Probabilities that a part is present.
ESSENTIAL = 0.88
OPTIONAL = 0.42

# Shares of all scenes.
LOOSE = 0.1
"""Scenes that show a part alone."""
PAIRS = 0.34
"""Scenes of two things."""
TRIPLES = 0.1
"""Scenes of three things."""

# Probabilities of what is usual.
COMPANY = 0.88
"""An object that has a companion stands beside it, if it is the only object drawn."""
USUAL_COLOUR = 0.55
"""An object has its kind's own colour."""
USUAL_PLACE = 0.45
"""The first object stands where its kind is at home."""
USUAL_STYLE = 0.75
"""A scene is drawn in the default style."""

_HELD_OUT_PER_CENT = 10
_ON_TOP = frozenset({"luggage", "cup", "candles", "apples", "cushion", "smoke", "chimney", "bells"})
"""Parts that would be in the way of another object on top."""

RelationKind = Literal["left of", "behind", "on"]


@dataclass(frozen=True)
class Thing:
    """An object, or one of its parts alone when ``body`` is False.

    Attributes:
        object: A name in OBJECTS.
        parts: Those of its parts that are present.
        colour: A name in COLOURS.
        x: Its middle, from the picture's left edge, in fractions of the picture.
        size: The side of its 100-unit box, in fractions of the picture.
        lift: How far its foot is above the line where things stand, in fractions of the picture.
        body: Whether the object itself is present.
        named: Whether captions name it: always, unless it is an object's usual companion.
    """

    object: str
    parts: frozenset[str]
    colour: str
    x: float
    size: float
    lift: float = 0.0
    body: bool = True
    named: bool = True


@dataclass(frozen=True)
class Relation:
    """Position of one thing relative to another; ``first`` and ``second`` are indices of ``Scene.things``."""

    first: int
    kind: RelationKind
    second: int


@dataclass(frozen=True)
class Scene:
    """Up to three things in one place, from the farthest to the nearest.

    Attributes:
        things: Things in the order they are drawn.
        place: A name in PLACES.
        place_parts: Those of the place's parts that are present.
        relations: How things stand to each other.
        style: A name in STYLES.
        horizon: Height of the horizon, measured down from the top, in fractions of the picture.
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
    # A checksum, because Python's own hash of a string differs between processes.
    key = f"{object}|{part}|{colour}|{place}"
    return zlib.crc32(key.encode()) % 100 < _HELD_OUT_PER_CENT


def has_held_out(object: str, colour: str, place: str) -> bool:
    """Return whether any essential part of the object makes a held-out combination."""
    return any(is_held_out(object, part, colour, place) for part in OBJECTS[object].essential)


def sample_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """Draw a random scene without any held-out combination, or with at least one if ``held_out``.

    An essential part counts whether it is present or not, so the model cannot learn a combination from its absence.
    """
    # Here and below, the order of draws settles every training set: the same seed has to give the same scenes.
    things, relations = _sample_layout(rng)
    style = DEFAULT_STYLE
    if rng.random() >= USUAL_STYLE:
        style = rng.choice([name for name in STYLES if name != DEFAULT_STYLE])
    horizon = rng.uniform(0.63, 0.72)
    # Only place and colours are drawn again, so that held-out combinations do not change the share of any layout.
    while True:
        place = _sample_place(things[0].object, rng)
        things = tuple(replace(thing, colour=_sample_colour(thing.object, rng)) for thing in things)
        if held_out == any(has_held_out(thing.object, thing.colour, place) for thing in things):
            break
    place_parts = _sample_parts(PLACES[place].essential, PLACES[place].optional, rng)
    return Scene(things, place, place_parts, relations, style, horizon)


Layout = tuple[tuple[Thing, ...], tuple[Relation, ...]]
"""Things without colours, and how they stand to each other."""


def _sample_layout(rng: random.Random) -> Layout:
    kind = rng.random()
    if kind < LOOSE:
        return _loose_part(rng)
    if kind < LOOSE + TRIPLES:
        return rng.choice((_three_in_a_row, _stack_beside))(rng)
    if kind < LOOSE + TRIPLES + PAIRS:
        # Side by side is listed twice, so that half of all pairs stand so.
        pair: Callable[[random.Random], Layout] = rng.choice((_side_by_side, _side_by_side, _one_behind, _one_on))
        return pair(rng)
    return _alone(rng)


def _loose_part(rng: random.Random) -> Layout:
    name = rng.choice(list(OBJECTS))
    part = rng.choice(OBJECTS[name].parts)
    x = rng.uniform(0.44, 0.56)
    size = rng.uniform(0.62, 0.8)
    return (Thing(name, frozenset({part}), "", x, size, body=False),), ()


def _alone(rng: random.Random) -> Layout:
    """Return one thing, usually beside its companion if it has one."""
    name = rng.choice(list(OBJECTS))
    companion = OBJECTS[name].companion
    if not companion or rng.random() > COMPANY:
        return (_thing(name, rng, rng.uniform(0.42, 0.58), rng.uniform(0.64, 0.8)),), ()
    main_is_left = rng.random() < 0.5
    main_x, companion_x = (0.36, 0.77) if main_is_left else (0.64, 0.23)
    main = _thing(name, rng, main_x + rng.uniform(-0.02, 0.02), rng.uniform(0.54, 0.6))
    second = _thing(companion, rng, companion_x + rng.uniform(-0.02, 0.02), rng.uniform(0.36, 0.42))
    second = replace(second, named=rng.random() < 0.5)
    relation = Relation(0, "left of", 1) if main_is_left else Relation(1, "left of", 0)
    return (main, second), (relation,)


def _side_by_side(rng: random.Random) -> Layout:
    names = rng.sample(list(OBJECTS), 2)
    left = _thing(names[0], rng, 0.27 + rng.uniform(-0.02, 0.02), rng.uniform(0.42, 0.48))
    right = _thing(names[1], rng, 0.73 + rng.uniform(-0.02, 0.02), rng.uniform(0.42, 0.48))
    return (left, right), (Relation(0, "left of", 1),)


def _one_behind(rng: random.Random) -> Layout:
    """Return one thing that stands farther back and is partly hidden by another."""
    names = rng.sample(list(OBJECTS), 2)
    side = rng.choice((-1, 1))
    far = _thing(names[0], rng, 0.5 + side * rng.uniform(0.15, 0.18), rng.uniform(0.46, 0.5))
    near = _thing(names[1], rng, 0.5 - side * rng.uniform(0.15, 0.18), rng.uniform(0.46, 0.5))
    # What is farther away stands higher in the picture, and is drawn first.
    return (replace(far, lift=0.12), replace(near, lift=-0.06)), (Relation(0, "behind", 1),)


def _one_on(rng: random.Random) -> Layout:
    carrier, rider = _carrier_and_rider(rng)
    return _stacked(carrier, rider, rng, rng.uniform(0.45, 0.55), rng.uniform(0.52, 0.58))


def _three_in_a_row(rng: random.Random) -> Layout:
    names = rng.sample(list(OBJECTS), 3)
    things = []
    for name, x in zip(names, (0.18, 0.5, 0.82), strict=True):
        things.append(_thing(name, rng, x + rng.uniform(-0.01, 0.01), rng.uniform(0.3, 0.34)))
    return tuple(things), (Relation(0, "left of", 1), Relation(1, "left of", 2))


def _stack_beside(rng: random.Random) -> Layout:
    """Return one thing on another, and a third beside them."""
    carrier, rider = _carrier_and_rider(rng)
    third = rng.choice([name for name in OBJECTS if name not in (carrier, rider)])
    side = rng.choice((-1, 1))
    stack, (on,) = _stacked(carrier, rider, rng, 0.5 - side * 0.22, rng.uniform(0.44, 0.48))
    beside = _thing(third, rng, 0.5 + side * 0.25, rng.uniform(0.4, 0.44))
    left_of = Relation(2, "left of", 0) if side < 0 else Relation(0, "left of", 2)
    return (*stack, beside), (on, left_of)


def _stacked(carrier: str, rider: str, rng: random.Random, x: float, size: float) -> Layout:
    top = OBJECTS[carrier].top
    assert top is not None
    below = _thing(carrier, rng, x, size)
    # The rider is as large as the space up to the picture's top edge allows.
    room = min(0.34, 0.84 - size * top / 100)
    above = replace(_thing(rider, rng, x + rng.uniform(-0.02, 0.02), room), lift=size * top / 100)
    return (replace(below, parts=below.parts - _ON_TOP), above), (Relation(1, "on", 0),)


def _carrier_and_rider(rng: random.Random) -> tuple[str, str]:
    carrier = rng.choice([name for name, kind in OBJECTS.items() if kind.top is not None])
    rider = rng.choice([name for name in OBJECTS if name != carrier])
    return carrier, rider


def _thing(name: str, rng: random.Random, x: float, size: float) -> Thing:
    """Return an object with random parts; the colour is drawn later, as it depends on the held-out combinations."""
    return Thing(name, _sample_parts(OBJECTS[name].essential, OBJECTS[name].optional, rng), "", x, size)


def _sample_parts(essential: Sequence[str], optional: Sequence[str], rng: random.Random) -> frozenset[str]:
    present = [part for part in essential if rng.random() < ESSENTIAL]
    present += [part for part in optional if rng.random() < OPTIONAL]
    return frozenset(present)


def _sample_place(name: str, rng: random.Random) -> str:
    home = OBJECTS[name].home
    return home if home and rng.random() < USUAL_PLACE else rng.choice(list(PLACES))


def _sample_colour(name: str, rng: random.Random) -> str:
    usual = OBJECTS[name].usual
    return usual if usual and rng.random() < USUAL_COLOUR else rng.choice(list(COLOURS))
