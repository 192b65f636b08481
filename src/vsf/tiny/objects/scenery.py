"""Things that stand still. Each function draws the parts named in `show`; "body" is the object itself."""

from __future__ import annotations

from collections.abc import Set
from math import cos, pi, sin

from vsf.tiny.brush import RGB, Brush, Oval
from vsf.tiny.objects import parts
from vsf.tiny.objects.parts import CREAM, CRIMSON, INK, NAVY, TAN, TEAL, WOOD

_LEAF: RGB = (28, 116, 62)

# Shapes are drawn from back to front: a later one covers an earlier one.


def house(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A house with a gable."""
    if "chimney" in show:
        brush.box(14, 50, 36, 94, (186, 64, 50), 1)
        brush.box(10, 88, 40, 99, CREAM, 2)
    if "body" in show:
        brush.polygon([(-35, 0), (-35, 50), (0, 78), (35, 50), (35, 0)], colour)
    if "roof" in show:
        brush.polygon([(-47, 42), (-43, 54), (0, 89), (43, 54), (47, 42), (0, 76)], WOOD)
    if "windows" in show:
        for x in (-30, 14):
            parts.square_window(brush, x, 22, 16, 18)
    if "door" in show:
        parts.door(brush, 0, 0, 20, 36)


def tree(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A tree with a round crown."""
    if "swing" in show:
        for x in (23, 41):
            brush.line([(x, 46), (x, 14)], CREAM, 3.5)
        brush.box(15, 7, 49, 18, TEAL, 2)
    if "body" in show:
        brush.polygon([(-11, 0), (-6, 44), (6, 44), (11, 0)], (134, 92, 62))
        brush.ovals([(-24, 58, 22, 20), (24, 58, 22, 20), (0, 76, 27, 21), (0, 56, 26, 20)], colour)
    if "nest" in show:
        brush.ovals([(-12, 48, 7.5, 9), (0, 50, 7.5, 9), (12, 48, 7.5, 9)], (150, 220, 240))
        brush.polygon([(-27, 46), (27, 46), (18, 30), (-18, 30)], TAN)
        brush.line([(-20, 39), (20, 39)], WOOD, 3)
    if "apples" in show:
        parts.apples(brush, [(-32, 57), (-18, 72), (2, 86), (20, 74), (33, 56), (0, 66)], 7.5)


def flower(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A single big flower."""
    if "body" in show:
        brush.line([(0, 4), (0, 54)], (84, 152, 62), 6)
    if "leaves" in show:
        for side in (-1, 1):
            rib = [(side * 3, 32), (side * 27, 46)]
            brush.polygon([rib[0], (side * 10, 46), (side * 34, 50), (side * 26, 34), (side * 12, 29)], _LEAF)
            brush.line(rib, (166, 214, 96), 2)
    if "body" in show:
        petals: list[Oval] = []
        for step in range(7):
            turn = 2 * pi * step / 7
            petals.append((15 * sin(turn), 74 + 15 * cos(turn), 9.5, 9.5))
        brush.ovals([*petals, (0, 74, 16, 16)], colour)
        brush.oval(0, 74, 9, 9, (122, 78, 46))
    if "pot" in show:
        brush.polygon([(-20, 24), (20, 24), (15, 0), (-15, 0)], (92, 112, 148))
        brush.box(-24, 20, 24, 29, CREAM, 3)
    if "butterfly" in show:
        brush.ovals([(29, 65, 8, 9), (43, 65, 8, 9), (30, 53, 6.5, 6.5), (42, 53, 6.5, 6.5)], (140, 80, 224))
        brush.ovals([(29, 65, 3.4, 4), (43, 65, 3.4, 4)], (255, 226, 110))
        brush.line([(36, 51), (36, 70)], INK, 3.5)


def cake(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A birthday cake."""
    if "plate" in show:
        brush.oval(0, 5, 49, 11, NAVY)
        brush.oval(0, 7, 45, 8.5, (176, 214, 240))
    if "body" in show:
        brush.box(-35, 6, 35, 50, colour, 4)
        drips = ((-30, 3), (-18, 0), (-6, 4), (6, 1), (18, 4), (30, 2))
        brush.ovals([(x, 44, 6, 6 + length) for x, length in drips], CREAM)
        brush.box(-37, 44, 37, 55, CREAM, 5)
    if "candles" in show:
        parts.candles(brush, (-22, 0, 22), 54, 20)
    if "cherries" in show:
        for x in (-32, -11, 11, 32):
            brush.oval(x, 58, 7, 7, CRIMSON)
            brush.oval(x - 2, 60, 1.6, 1.6, (255, 190, 200))


def table(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A table with a cloth."""
    if "legs" in show:
        parts.legs(brush, (-36, 36), 42, 10)
    if "candles" in show:
        parts.candles(brush, (-38, -23), 52, 20)
    if "cup" in show:
        brush.oval(9, 69, 10, 10, NAVY)
        brush.oval(9, 69, 5, 5, CREAM)
        brush.box(-16, 53, 9, 84, CREAM, 4)
        brush.box(-16, 62, 9, 74, NAVY, 0)
    if "apples" in show:
        parts.apples(brush, [(23, 60), (38, 60), (30.5, 72)], 8.5)
    if "body" in show:
        brush.ovals([(x, 42, 8, 10) for x in (-39, -26, -13, 0, 13, 26, 39)], colour)
        brush.box(-48, 44, 48, 54, colour, 4)
