"""Things that drive, sail and fly. Each function draws the parts named in `show`; "body" is the object itself."""

from __future__ import annotations

from collections.abc import Set

from vsf.tiny.brush import RGB, Brush
from vsf.tiny.objects import parts
from vsf.tiny.objects.parts import CREAM, INK, NAVY, STEEL, TAN, TEAL, WOOD

# Shapes are drawn from back to front: a later one covers an earlier one.


def car(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A small car, seen from the side."""
    if "luggage" in show:
        brush.box(-15, 66, 19, 88, WOOD, 4)
        for x in (-8, 8):
            brush.box(x - 1, 66, x + 4, 88, TAN, 0)
    if "body" in show:
        brush.polygon([(-34, 36), (-20, 67), (20, 67), (36, 36)], colour)
        brush.box(-47, 12, 47, 41, colour, 11)
    if "windows" in show:
        parts.window(brush, [(-22, 42), (-14, 59), (-3, 59), (-3, 42)])
        parts.window(brush, [(6, 42), (6, 59), (15, 59), (24, 42)])
    if "lights" in show:
        parts.light(brush, 38, 31)
        parts.light(brush, -38, 31)
    if "wheels" in show:
        for x in (-26, 26):
            parts.wheel(brush, x, 14, 14)


def bus(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A tall bus, seen from the side."""
    if "body" in show:
        for x in (-42, 42):
            brush.box(x - 7, 10, x + 7, 19, STEEL, 3)
        brush.box(-46, 13, 46, 82, colour, 10)
        brush.box(-45, 40, 45, 45, CREAM, 0)
        brush.box(-30, 76, 30, 86, colour, 4)
    if "windows" in show:
        for x in (-42, -26, 10, 26):
            parts.square_window(brush, x, 50, 15, 22)
    if "door" in show:
        parts.door(brush, 0, 12, 18, 58)
    if "lights" in show:
        parts.light(brush, 38, 31)
        parts.light(brush, -38, 31)
    if "wheels" in show:
        for x in (-27, 27):
            parts.wheel(brush, x, 13, 13)


def bicycle(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A bicycle, seen from the side."""
    if "wheels" in show:
        for x in (-26, 26):
            parts.wheel(brush, x, 22, 22)
    if "basket" in show:
        brush.polygon([(25, 82), (48, 82), (44, 60), (29, 60)], TAN)
        for y in (67, 75):
            brush.line([(29, y), (45, y)], WOOD, 2)
    if "body" in show:
        brush.line([(-10, 50), (-14, 66)], STEEL, 5)
        brush.line([(26, 22), (16, 60), (14, 72), (24, 76)], colour, 6)
        brush.line([(-26, 22), (-10, 52), (17, 56), (-2, 22), (-26, 22)], colour, 6)
        brush.line([(-10, 52), (-2, 22)], colour, 6)
        brush.line([(-7, 17), (3, 27)], STEEL, 4)
    if "saddle" in show:
        brush.polygon([(-34, 78), (-34, 67), (-4, 67), (7, 73), (-12, 78)], INK)
        brush.line([(-30, 74), (-4, 72.5)], CREAM, 3.5)


def wagon(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A little wagon to pull along."""
    if "flag" in show:
        parts.flag(brush, -36, 40, 56)
    if "apples" in show:
        parts.apples(brush, [(-24, 51), (-10, 52), (4, 51), (18, 50), (-3, 62), (10, 61), (-17, 61)], 8)
    if "body" in show:
        brush.line([(26, 22), (41, 54), (47, 52)], STEEL, 5)
        brush.box(-45, 16, 30, 46, colour, 4)
        brush.box(-47, 42, 32, 50, colour, 4)
    if "wheels" in show:
        for x in (-27, 13):
            parts.wheel(brush, x, 15, 15)


def boat(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A sailing boat."""
    if "flag" in show:
        parts.flag(brush, 0, 70, 28)
    if "body" in show:
        brush.line([(0, 30), (0, 76)], WOOD, 5)
        brush.polygon([(-47, 32), (47, 32), (32, 2), (-30, 2)], colour)
    if "sail" in show:
        brush.polygon([(4, 38), (4, 74), (40, 38)], CREAM)
        brush.polygon([(4, 50), (4, 60), (19, 60), (28, 50)], NAVY)
        brush.polygon([(-4, 38), (-4, 68), (-30, 38)], CREAM)
    if "anchor" in show:
        for fill, width in ((INK, 10.0), (STEEL, 5.0)):
            brush.line([(14, 34), (14, 4)], fill, width)
            brush.line([(-5, 16), (1, 7), (14, 3), (27, 7), (33, 16)], fill, width)
            brush.line([(4, 28), (24, 28)], fill, width)


def rocket(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A rocket that stands or takes off."""
    if "flames" in show:
        brush.ovals([(-9, 15, 6, 11), (9, 15, 6, 11), (0, 12, 8, 14)], (255, 120, 24))
        brush.ovals([(-8, 16, 2.6, 6), (8, 16, 2.6, 6), (0, 13, 4, 9)], (255, 236, 120))
    if "fins" in show:
        for side in (-1, 1):
            brush.polygon([(side * 12, 50), (side * 40, 22), (side * 40, 8), (side * 12, 24)], TEAL)
            brush.line([(side * 37, 20), (side * 37, 13)], CREAM, 4)
    if "body" in show:
        brush.box(-12, 17, 12, 26, STEEL)
        outline = [(20, 40), (21, 54), (18, 70), (11, 86), (0, 98)]
        mirrored = [(-x, y) for x, y in reversed(outline[:-1])]
        brush.polygon([(-15, 24), (15, 24), *outline, *mirrored], colour)
    if "windows" in show:
        parts.round_window(brush, 0, 66, 10)
        parts.round_window(brush, 0, 41, 10)
