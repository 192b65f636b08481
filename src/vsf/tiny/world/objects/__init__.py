"""The kinds of objects and their removable parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from vsf.tiny.world.brush import RGB, Brush
from vsf.tiny.world.objects import animals, household, scenery, vehicles


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object: its parts, how it is drawn, and its usual colour, company and place.

    Attributes:
        essential: Parts that are nearly always present.
        optional: Parts that may be present.
        draw: ``draw(brush, show, colour)`` draws the parts in ``show``, and the object itself if "body" is among them.
        usual: The colour that most of its kind have; empty if all are equally likely.
        top: Height, in hundredths of its box, at which another thing can stand; None if nothing can.
        companion: The object that nearly always stands beside it when the scene has no other; empty if none does.
        home: The place where about half of its kind stand; empty if all are equally likely.
    """

    essential: tuple[str, ...]
    optional: tuple[str, ...]
    draw: Callable[[Brush, Set[str], RGB], None]
    usual: str = ""
    top: float | None = None
    companion: str = ""
    home: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """All removable parts, essential ones first."""
        return self.essential + self.optional


OBJECTS: Mapping[str, ObjectKind] = MappingProxyType(
    {
        "bicycle": ObjectKind(("wheels",), ("basket", "saddle", "flag", "lights"), vehicles.bicycle),
        "bird": ObjectKind(("wings", "beak"), ("eyes", "tail", "feet", "crown"), animals.bird, usual="blue"),
        "boat": ObjectKind(("sail",), ("flag", "anchor", "windows", "stripes"), vehicles.boat, home="beach"),
        "bus": ObjectKind(
            ("wheels", "windows"), ("door", "lights", "stripes"), vehicles.bus, top=87, usual="yellow", home="city"
        ),
        "cake": ObjectKind(("candles",), ("cherries", "plate", "stars"), household.cake, usual="pink"),
        "car": ObjectKind(
            ("wheels", "windows"), ("lights", "luggage", "flag"), vehicles.car, top=66, usual="red", home="city"
        ),
        "castle": ObjectKind(("towers", "door"), ("flag", "windows"), scenery.castle, usual="gray"),
        "cat": ObjectKind(
            ("eyes", "tail"), ("hat", "paws", "whiskers", "collar"), animals.cat, usual="orange", home="room"
        ),
        "chair": ObjectKind(("legs",), ("cushion", "book", "bow"), household.chair, top=45, home="room"),
        "clock": ObjectKind(("hands", "bells"), ("legs", "numbers"), household.clock),
        "dog": ObjectKind(
            ("ears", "eyes"), ("tail", "collar", "bone", "hat"), animals.dog, usual="brown", home="grass"
        ),
        "elephant": ObjectKind(
            ("trunk", "ears"), ("tusks", "eyes", "hat", "bow"), animals.elephant, usual="gray", home="desert"
        ),
        "fish": ObjectKind(("fins", "tail"), ("eyes", "stripes", "bubbles", "crown"), animals.fish, home="beach"),
        "flower": ObjectKind(("leaves", "pot"), ("butterfly", "eyes", "bow"), scenery.flower, home="grass"),
        "guitar": ObjectKind(("strings",), ("strap", "pegs", "stars"), household.guitar, usual="brown"),
        "house": ObjectKind(
            ("roof", "door", "windows"), ("chimney", "smoke", "antenna", "flowers"), scenery.house, companion="tree"
        ),
        "lamp": ObjectKind(("shade",), ("cord", "butterfly", "stars"), household.lamp, home="room"),
        "penguin": ObjectKind(
            ("beak", "wings"), ("eyes", "feet", "scarf", "hat"), animals.penguin, usual="blue", home="snow"
        ),
        "plane": ObjectKind(("wings", "windows"), ("tail", "propeller", "wheels", "stripes"), vehicles.plane),
        "rabbit": ObjectKind(("ears", "eyes"), ("tail", "carrot", "bow"), animals.rabbit, usual="white", home="grass"),
        "robot": ObjectKind(("eyes", "arms", "legs"), ("antenna", "buttons", "crown"), scenery.robot, home="space"),
        "rocket": ObjectKind(
            ("windows", "fins"), ("flames", "stripes", "flag", "stars"), vehicles.rocket, home="space"
        ),
        "snail": ObjectKind(("shell", "eyes"), ("leaves", "bow"), animals.snail),
        "snowman": ObjectKind(
            ("eyes", "arms"),
            ("hat", "scarf", "carrot", "buttons", "broom"),
            scenery.snowman,
            usual="white",
            companion="penguin",
            home="snow",
        ),
        "table": ObjectKind(
            ("legs",), ("cup", "candles", "apples"), household.table, top=53, companion="chair", home="room"
        ),
        "teapot": ObjectKind(("handle", "spout"), ("lid", "steam", "stripes", "stars"), household.teapot, home="room"),
        "train": ObjectKind(
            ("wheels", "windows"), ("chimney", "smoke", "lights", "bells"), vehicles.train, top=81, usual="green"
        ),
        "tree": ObjectKind(("apples",), ("swing", "nest", "lights"), scenery.tree, usual="green", home="forest"),
        "umbrella": ObjectKind(("handle",), ("stripes", "drops", "bow"), household.umbrella),
    }
)
PARTS: tuple[str, ...] = tuple(sorted({part for kind in OBJECTS.values() for part in kind.parts}))
