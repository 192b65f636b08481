"""Vehicles. Each function draws the parts named in ``show``; "body" is the thing itself."""

from __future__ import annotations

from collections.abc import Set

from vsf.tiny.world import parts
from vsf.tiny.world.brush import RGB, Brush, blend
from vsf.tiny.world.parts import CREAM, GLASS, GOLD, INK, STEEL, TAN, TEAL, WHITE, WOOD

# Shapes are drawn from back to front: a later one covers an earlier one.


def car(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a small car, seen from the side."""
    if "luggage" in show:
        brush.box(-17, 66, 17, 86, WOOD, 4)
        for x in (-9, 7):
            brush.box(x - 1, 66, x + 4, 86, TAN, 0)
        brush.line([(-4, 88), (4, 88)], INK, 2.5)
    if "flag" in show:
        parts.flag(brush, -40, 38, 50)
    if "body" in show:
        brush.blob([(-36, 38), (-24, 62), (-16, 67), (16, 67), (26, 60), (38, 38)], colour)
        brush.box(-47, 12, 47, 41, colour, 11)
        brush.box(-47, 17, 47, 21, blend(colour, INK, 0.25), 2)
    if "windows" in show:
        parts.window(brush, [(-23, 43), (-15, 59), (-3, 59), (-3, 43)])
        parts.window(brush, [(5, 43), (5, 59), (15, 59), (25, 43)])
    if "lights" in show:
        parts.light(brush, 41, 32, 7.5)
        parts.light(brush, -41, 32, 7.5)
    if "wheels" in show:
        for x in (-26, 26):
            parts.wheel(brush, x, 14, 14)


def bus(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a tall bus, seen from the side."""
    if "body" in show:
        brush.box(-47, 12, 47, 84, colour, 9)
        brush.box(-30, 82, 30, 88, colour, 3)
    if "stripes" in show:
        brush.box(-47, 36, 47, 40, CREAM, 0)
        brush.box(-47, 27, 47, 31, CREAM, 0)
    if "windows" in show:
        for x in (-43, -27, 11, 27):
            parts.square_window(brush, x, 50, 15, 24)
    if "door" in show:
        parts.door(brush, 0, 12, 18, 60)
    if "lights" in show:
        parts.light(brush, 41, 30, 6.5)
        parts.light(brush, -41, 30, 6.5)
    if "wheels" in show:
        for x in (-26, 26):
            parts.wheel(brush, x, 13, 13)


def bicycle(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a bicycle, seen from the side."""
    if "wheels" in show:
        for x in (-27, 27):
            parts.wheel(brush, x, 20, 20)
            brush.oval(x, 20, 13.5, 13.5, STEEL)
            brush.oval(x, 20, 3, 3, INK)
    if "basket" in show:
        parts.basket(brush, 35, 60, 26)
    if "body" in show:
        brush.line([(-12, 48), (-15, 64)], STEEL, 4)
        brush.line([(27, 20), (18, 58), (16, 72), (25, 77)], colour, 5)
        brush.line([(-27, 20), (-11, 52), (18, 55), (-2, 21), (-27, 20)], colour, 5)
        brush.line([(-11, 52), (-2, 21)], colour, 5)
        brush.oval(-2, 21, 5, 5, STEEL)
    if "saddle" in show:
        brush.blob([(-31, 72), (-29, 64), (-6, 64), (4, 68), (-12, 73)], WOOD)
    if "flag" in show:
        parts.flag(brush, -32, 40, 52)
    if "lights" in show:
        parts.light(brush, 28, 52, 6)


def train(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a steam engine that drives to the right."""
    if "smoke" in show:
        parts.smoke(brush, 23, 76)
    if "chimney" in show:
        brush.box(16, 50, 28, 70, INK, 1)
        brush.polygon([(11, 78), (33, 78), (28, 68), (16, 68)], INK)
        brush.line([(14, 74), (30, 74)], GOLD, 2)
    if "body" in show:
        brush.box(-44, 14, -8, 74, colour, 3)
        brush.box(-12, 20, 44, 52, colour, 11)
        brush.box(-48, 74, -4, 82, blend(colour, INK, 0.4), 3)
        brush.box(-46, 14, 44, 24, blend(colour, INK, 0.4), 2)
        brush.box(10, 24, 14, 52, GOLD, 0)
        brush.polygon([(40, 22), (49, 4), (38, 4)], STEEL)
    if "windows" in show:
        parts.square_window(brush, -37, 44, 22, 24)
    if "lights" in show:
        parts.light(brush, 42, 44, 7.5)
    if "bells" in show:
        brush.polygon([(-7, 54), (9, 54), (5, 66), (-3, 66)], GOLD)
        brush.oval(1, 54, 2.6, 2.6, INK)
    if "wheels" in show:
        parts.wheel(brush, -28, 14, 14)
        for x in (4, 27):
            parts.wheel(brush, x, 10, 10)


def boat(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a sailing boat."""
    if "flag" in show:
        parts.flag(brush, 0, 72, 26)
    if "body" in show:
        brush.line([(0, 28), (0, 78)], WOOD, 4.5)
        brush.blob([(-48, 32), (0, 29), (48, 32), (40, 12), (30, 2), (-28, 2), (-40, 14)], colour)
        brush.curve([(-44, 24), (0, 21), (44, 24)], CREAM, 2.6)
    if "sail" in show:
        brush.blob([(4, 38), (4, 78), (26, 58), (41, 38)], CREAM)
        brush.polygon([(-4, 38), (-4, 70), (-31, 38)], CREAM)
    if "stripes" in show:
        brush.polygon([(4, 50), (4, 58), (27, 58), (33, 50)], (230, 60, 60))
    if "windows" in show:
        for x in (-22, 0, 22):
            parts.round_window(brush, x, 15, 7)
    if "anchor" in show:
        for fill, width in ((INK, 7.5), (STEEL, 4.0)):
            brush.line([(31, 36), (31, 4)], fill, width)
            brush.curve([(16, 12), (22, 4), (31, 2), (40, 4), (46, 12)], fill, width)
            brush.line([(24, 27), (38, 27)], fill, width)


def plane(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a small plane that flies to the right."""
    if "wheels" in show:
        for x in (-6, 20):
            brush.line([(x, 32), (x, 12)], STEEL, 3)
            parts.wheel(brush, x, 8, 8)
    if "tail" in show:
        brush.polygon([(-28, 50), (-49, 78), (-36, 78), (-14, 56)], blend(colour, INK, 0.25))
    if "wings" in show:
        brush.polygon([(-8, 52), (-22, 82), (-8, 82), (16, 54)], STEEL)
    if "body" in show:
        brush.blob([(-46, 52), (-30, 58), (8, 62), (34, 56), (43, 45), (34, 34), (6, 29), (-22, 36), (-44, 48)], colour)
        brush.blob([(22, 57), (36, 54), (40, 47), (24, 46)], GLASS)
    if "windows" in show:
        for x in (-24, -10, 4):
            parts.round_window(brush, x, 50, 6)
    if "stripes" in show:
        brush.curve([(-36, 42), (0, 38), (36, 40)], WHITE, 4)
    if "wings" in show:
        brush.polygon([(14, 44), (-10, 42), (-32, 14), (-16, 14)], STEEL)
    if "propeller" in show:
        brush.ovals([(46, 60, 3, 14), (46, 32, 3, 14)], WOOD)
        brush.oval(45, 46, 5, 5, GOLD)


def rocket(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a rocket that stands or takes off."""
    if "flames" in show:
        brush.blob([(-11, 22), (-16, 8), (-6, 12), (0, -3), (6, 12), (16, 8), (11, 22)], (255, 120, 24))
        brush.blob([(-5, 20), (0, 4), (5, 20)], (255, 236, 120))
    if "fins" in show:
        for side in (-1, 1):
            brush.polygon([(side * 12, 50), (side * 38, 24), (side * 38, 8), (side * 12, 24)], TEAL)
    if "body" in show:
        brush.box(-12, 17, 12, 26, STEEL)
        outline = [(17, 24), (21, 42), (19, 66), (12, 84)]
        mirrored = [(-x, y) for x, y in reversed(outline)]
        brush.blob([*outline, (0, 98), *mirrored], colour)
    if "stripes" in show:
        brush.box(-20, 30, 20, 35, WHITE, 0)
        brush.box(-17, 76, 17, 81, WHITE, 0)
    if "windows" in show:
        parts.round_window(brush, 0, 64, 10)
        parts.round_window(brush, 0, 44, 7)
    if "flag" in show:
        parts.flag(brush, 12, 70, 28)
    if "stars" in show:
        parts.stars(brush, [(-36, 66), (36, 52), (-32, 88)], 8)
