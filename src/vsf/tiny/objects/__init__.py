"""The kinds of objects of the synthetic scenes and their removable parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from vsf.tiny.brush import RGB, Brush
from vsf.tiny.objects import figures, scenery, vehicles


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object: the parts it nearly always has, those it may have, and how it is drawn.

    `draw(brush, show, colour)` draws the parts named in `show`, and the object itself when "body" is among them.
    """

    essential: tuple[str, ...]
    optional: tuple[str, ...]
    draw: Callable[[Brush, Set[str], RGB], None]

    @property
    def parts(self) -> tuple[str, ...]:
        """All removable parts, essential ones first."""
        return self.essential + self.optional


OBJECTS: Mapping[str, ObjectKind] = MappingProxyType(
    {
        "bicycle": ObjectKind(("wheels",), ("basket", "saddle"), vehicles.bicycle),
        "boat": ObjectKind(("sail",), ("flag", "anchor"), vehicles.boat),
        "bus": ObjectKind(("wheels", "windows"), ("door", "lights"), vehicles.bus),
        "cake": ObjectKind(("candles",), ("cherries", "plate"), scenery.cake),
        "car": ObjectKind(("wheels", "windows"), ("lights", "luggage"), vehicles.car),
        "cat": ObjectKind(("eyes", "tail"), ("hat", "scarf", "paws"), figures.cat),
        "flower": ObjectKind(("leaves", "pot"), ("butterfly",), scenery.flower),
        "house": ObjectKind(("roof", "door", "windows"), ("chimney",), scenery.house),
        "robot": ObjectKind(("eyes", "arms", "legs"), ("antenna", "buttons"), figures.robot),
        "rocket": ObjectKind(("windows", "fins"), ("flames",), vehicles.rocket),
        "snowman": ObjectKind(("eyes", "arms"), ("hat", "scarf", "carrot"), figures.snowman),
        "table": ObjectKind(("legs",), ("cup", "candles", "apples"), scenery.table),
        "tree": ObjectKind(("apples",), ("swing", "nest"), scenery.tree),
        "wagon": ObjectKind(("wheels",), ("apples", "flag"), vehicles.wagon),
    }
)
PARTS: tuple[str, ...] = tuple(sorted({part for kind in OBJECTS.values() for part in kind.parts}))
