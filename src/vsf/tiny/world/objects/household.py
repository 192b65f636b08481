"""Household things. Each function draws the parts named in ``show``; "body" is the thing itself."""

from __future__ import annotations

from collections.abc import Set
from math import cos, pi, sin

from vsf.tiny.world import parts
from vsf.tiny.world.brush import RGB, Brush, Oval, blend
from vsf.tiny.world.parts import CREAM, CRIMSON, GLASS, GOLD, INK, NAVY, STEEL, TEAL, WHITE, WOOD

# Shapes are drawn from back to front: a later one covers an earlier one.


def chair(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a chair, its back behind the seat."""
    if "legs" in show:
        parts.legs(brush, (-26, 26), 38, 8)
    if "body" in show:
        for x in (-26, 26):
            brush.box(x - 5, 40, x + 5, 96, colour, 3)
        for y in (62, 80):
            brush.box(-22, y, 22, y + 10, colour, 2)
        brush.box(-33, 34, 33, 46, colour, 4)
    if "cushion" in show:
        brush.box(-27, 45, 27, 58, TEAL, 6)
        brush.oval(0, 51.5, 3.5, 3.5, CREAM)
    if "book" in show:
        parts.book(brush, 0, 0, 36)
    if "bow" in show:
        parts.bow(brush, 0, 86, 16)


def table(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a table with a cloth."""
    if "legs" in show:
        parts.legs(brush, (-36, 36), 42, 9)
    if "candles" in show:
        parts.candles(brush, (-38, -24), 52, 20)
    if "cup" in show:
        parts.cup(brush, -4, 53)
    if "apples" in show:
        parts.apples(brush, [(23, 60), (38, 60), (30.5, 72)], 8.5)
    if "body" in show:
        brush.ovals([(x, 42, 8, 10) for x in (-39, -26, -13, 0, 13, 26, 39)], colour)
        brush.box(-48, 44, 48, 54, colour, 4)


def lamp(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a standing lamp."""
    if "body" in show:
        brush.oval(0, 4, 24, 6, NAVY)
        brush.line([(0, 6), (0, 66)], STEEL, 6)
        brush.oval(0, 64, 11, 12, (255, 244, 150))
    if "shade" in show:
        brush.polygon([(-20, 96), (20, 96), (36, 58), (-36, 58)], colour)
        brush.line([(-33, 63), (33, 63)], CREAM, 3)
    if "cord" in show:
        brush.line([(15, 58), (15, 36)], INK, 1.4)
        brush.oval(15, 34, 4.5, 4.5, GOLD)
    if "butterfly" in show:
        parts.butterfly(brush, -34, 40)
    if "stars" in show:
        parts.stars(brush, [(-16, 76), (2, 84), (18, 75)], 7.5)


def clock(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw an alarm clock."""
    if "legs" in show:
        for side in (-1, 1):
            brush.line([(side * 18, 22), (side * 28, 3)], WOOD, 6)
            brush.oval(side * 28, 3, 5, 5, CREAM)
    if "bells" in show:
        for side in (-1, 1):
            brush.line([(side * 16, 74), (side * 22, 82)], STEEL, 4)
            dome = [(side * 8, 86), (side * 18, 95), (side * 32, 88), (side * 36, 74)]
            brush.polygon(dome, GOLD)
    if "body" in show:
        brush.oval(0, 46, 38, 37, colour)
        brush.oval(0, 46, 29, 28, WHITE)
    if "numbers" in show:
        dots: list[Oval] = []
        for hour in range(12):
            turn = pi * hour / 6
            dots.append((23 * sin(turn), 46 + 22 * cos(turn), 1.9, 1.9))
        brush.ovals(dots, (60, 90, 170))
    if "hands" in show:
        brush.line([(0, 46), (0, 66)], INK, 2.4)
        brush.line([(0, 46), (13, 52)], INK, 3)
        brush.oval(0, 46, 3.5, 3.5, CRIMSON)


def teapot(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a round teapot with its spout to the right."""
    if "handle" in show:
        brush.curve([(-24, 52), (-44, 54), (-47, 36), (-38, 22), (-22, 20)], WOOD, 6.5)
    if "spout" in show:
        brush.polygon([(18, 38), (36, 62), (48, 66), (46, 56), (38, 34), (22, 14)], blend(colour, INK, 0.18))
    if "steam" in show:
        for x, y in ((42, 74), (48, 76)):
            brush.curve([(x, y), (x - 4, y + 7), (x + 1, y + 14), (x - 3, y + 21)], STEEL, 2.6)
    if "body" in show:
        brush.oval(0, 34, 32, 31, colour)
        brush.oval(-13, 46, 6, 8, blend(colour, WHITE, 0.6))
        brush.box(-17, 0, 17, 6, colour, 3)
        brush.oval(0, 62, 15, 4, INK)
    if "stripes" in show:
        for y, reach in ((22, 27), (34, 30)):
            brush.curve([(-reach, y + 2), (0, y - 4), (reach, y + 2)], CREAM, 4.5)
    if "lid" in show:
        brush.ovals([(0, 63, 19, 6)], GOLD)
        brush.oval(0, 74, 6, 6, GOLD)
    if "stars" in show:
        parts.stars(brush, [(-16, 26), (4, 40), (16, 22)], 7)


def umbrella(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw an open umbrella."""
    if "handle" in show:
        brush.curve([(0, 62), (0, 34), (0, 11), (7, 3), (15, 6), (17, 13)], WOOD, 5)
    if "body" in show:
        brush.line([(0, 90), (0, 97)], STEEL, 3)
        dome = [(-47, 52), (-41, 70), (-24, 86), (0, 92), (24, 86), (41, 70), (47, 52)]
        hem = [(31, 58), (16, 51), (0, 58), (-16, 51), (-31, 58)]
        brush.polygon([*dome, *hem], colour)
        for x in (-16, 16):
            brush.stroke([(x, 51), (x * 0.8, 74), (0, 92)], blend(colour, INK, 0.5), 1.8)
    if "stripes" in show:
        for side in (-1, 1):
            brush.polygon([(side * 16, 52), (side * 31, 58), (side * 24, 78), (side * 3, 91)], WHITE)
    if "drops" in show:
        for x, y in ((-34, 40), (-20, 24), (34, 42), (26, 22), (-38, 14), (40, 14)):
            brush.blob([(x, y + 8), (x + 4, y), (x, y - 4), (x - 4, y)], (90, 170, 250))
    if "bow" in show:
        parts.bow(brush, 0, 26, 14)


def guitar(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a standing guitar."""
    if "strap" in show:
        brush.curve([(-14, 10), (-42, 26), (-38, 62), (-4, 88)], CRIMSON, 5)
    if "body" in show:
        brush.box(-4.5, 40, 4.5, 84, WOOD, 1)
        brush.box(-8, 82, 8, 98, WOOD, 2)
        sides = [(0, 1), (22, 5), (29, 18), (20, 32), (19, 44), (8, 55)]
        brush.blob([*sides, *((-x, y) for x, y in reversed(sides[1:]))], colour)
        brush.oval(0, 34, 9, 9, INK)
        brush.box(-11, 12, 11, 17, WOOD, 1)
    if "strings" in show:
        for x in (-2.8, 0, 2.8):
            brush.line([(x, 15), (x, 88)], WHITE, 0.9)
    if "pegs" in show:
        for side in (-1, 1):
            brush.ovals([(side * 12, 86, 4, 3), (side * 12, 94, 4, 3)], GOLD)
    if "stars" in show:
        parts.stars(brush, [(-17, 16), (17, 14), (14, 44)], 7)


def cake(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a birthday cake of two layers."""
    if "plate" in show:
        brush.oval(0, 4, 49, 9, NAVY)
        brush.oval(0, 5.5, 45, 7, GLASS)
    if "body" in show:
        brush.box(-36, 5, 36, 36, colour, 4)
        brush.box(-24, 34, 24, 58, colour, 4)
        for y, half, drops in ((34, 38, (-30, -18, -6, 6, 18, 30)), (56, 26, (-18, -6, 6, 18))):
            brush.ovals([(x, y - 4, 5, 6 + (x % 4)) for x in drops], CREAM)
            brush.box(-half, y - 2, half, y + 5, CREAM, 3.5)
    if "candles" in show:
        parts.candles(brush, (-15, 0, 15), 60, 18)
    if "cherries" in show:
        for x in (-31, 31):
            brush.oval(x, 43, 6, 6, CRIMSON)
            brush.oval(x - 2, 45, 1.5, 1.5, WHITE)
        for x in (-8, 8):
            brush.oval(x, 64, 5.5, 5.5, CRIMSON)
    if "stars" in show:
        parts.stars(brush, [(-24, 17), (0, 17), (24, 17)], 7)
