"""Buildings, plants and figures. Each function draws the parts named in ``show``; "body" is the thing itself."""

from __future__ import annotations

from collections.abc import Set
from math import cos, pi, sin

from vsf.tiny.world import parts
from vsf.tiny.world.brush import RGB, Brush, blend
from vsf.tiny.world.parts import CREAM, GOLD, INK, LEAF, STEEL, TAN, TEAL, WHITE, WOOD

# Shapes are drawn from back to front: a later one covers an earlier one.


def house(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a house with a gable."""
    if "smoke" in show:
        parts.smoke(brush, 25, 82)
    if "chimney" in show:
        parts.chimney(brush, 25, 48, 36)
    if "antenna" in show:
        parts.antenna(brush, -24, 50, 38)
    if "body" in show:
        brush.polygon([(-35, 0), (-35, 48), (0, 76), (35, 48), (35, 0)], colour)
    if "roof" in show:
        brush.polygon([(-47, 42), (-43, 53), (0, 88), (43, 53), (47, 42), (0, 74)], (150, 62, 48))
    if "windows" in show:
        for x in (-30, 14):
            parts.square_window(brush, x, 22, 16, 18)
    if "door" in show:
        parts.door(brush, 0, 0, 20, 36)
    if "flowers" in show:
        for x in (-30, -22, 22, 30):
            brush.line([(x, 0), (x, 8)], LEAF, 2.4)
            brush.oval(x, 10, 5, 5, (255, 110, 170))
            brush.oval(x, 10, 1.8, 1.8, GOLD)


def castle(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a castle with a battlement between two towers."""
    if "flag" in show:
        parts.flag(brush, 0, 58, 38)
    if "towers" in show:
        for x in (-36, 36):
            parts.tower(brush, x, 66, 20, blend(colour, WHITE, 0.35))
    if "body" in show:
        brush.box(-30, 0, 30, 50, colour, 1)
        for x in (-24, -8, 8, 24):
            brush.box(x - 6, 46, x + 6, 60, colour, 1)
    if "windows" in show:
        for x in (-20, 20):
            parts.square_window(brush, x - 6, 26, 12, 16)
    if "door" in show:
        parts.door(brush, 0, 0, 22, 32)


def tree(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a tree with a round crown."""
    if "swing" in show:
        for x in (24, 40):
            brush.line([(x, 46), (x, 14)], CREAM, 2.6)
        brush.box(17, 8, 47, 16, TEAL, 2)
    if "body" in show:
        brush.polygon([(-11, 0), (-6, 44), (6, 44), (11, 0)], WOOD)
        brush.ovals([(-24, 58, 22, 20), (24, 58, 22, 20), (0, 76, 27, 21), (0, 56, 26, 20)], colour)
        brush.ovals([(-14, 84, 9, 5), (-30, 66, 7, 5)], blend(colour, WHITE, 0.3))
    if "nest" in show:
        parts.nest(brush, 0, 30, 46)
    if "apples" in show:
        parts.apples(brush, [(-32, 57), (-18, 72), (2, 86), (20, 74), (33, 56), (0, 64)], 7)
    if "lights" in show:
        for x, y in ((-38, 62), (-22, 58), (-6, 74), (12, 62), (28, 68), (10, 88), (-14, 88)):
            brush.oval(x, y, 3.6, 3.6, (255, 244, 130))


def flower(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a single big flower."""
    if "body" in show:
        brush.line([(0, 4), (0, 54)], (84, 152, 62), 5)
    if "leaves" in show:
        for side in (-1, 1):
            brush.blob([(side * 2, 31), (side * 12, 45), (side * 35, 50), (side * 26, 33)], LEAF)
            brush.line([(side * 8, 35), (side * 26, 44)], (166, 214, 96), 1.4)
    if "body" in show:
        for step in range(7):
            turn = 2 * pi * step / 7
            brush.oval(16 * sin(turn), 74 + 16 * cos(turn), 9.5, 9.5, colour)
        brush.oval(0, 74, 10, 10, (140, 88, 46))
    if "eyes" in show:
        parts.eyes(brush, 0, 76, 5, 4.5)
    if "pot" in show:
        brush.polygon([(-20, 24), (20, 24), (15, 0), (-15, 0)], (198, 104, 70))
        brush.box(-24, 20, 24, 29, (222, 132, 92), 3)
    if "butterfly" in show:
        parts.butterfly(brush, 33, 64)
    if "bow" in show:
        parts.bow(brush, 0, 46, 12)


def robot(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a robot with a square head."""
    if "antenna" in show:
        parts.antenna(brush, 0, 78, 13)
    if "legs" in show:
        parts.legs(brush, (-12, 12), 26, 10)
    if "arms" in show:
        parts.arms(brush, (20, 47), (40, 28))
    if "body" in show:
        brush.box(-7, 50, 7, 60, STEEL)
        brush.box(-25, 22, 25, 55, colour, 6)
        brush.box(-23, 57, 23, 82, colour, 6)
        brush.box(-9, 61, 9, 64, INK, 1)
    if "eyes" in show:
        parts.eyes(brush, 0, 73, 11, 8)
    if "buttons" in show:
        parts.buttons(brush, [(-14, 38), (0, 38), (14, 38)], 6)
    if "crown" in show:
        parts.crown(brush, 0, 82, 34)


def snowman(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a snowman of two balls."""
    if "broom" in show:
        brush.line([(44, 8), (40, 84)], WOOD, 3.5)
        brush.polygon([(34, 80), (46, 81), (50, 99), (28, 98)], TAN)
    if "arms" in show:
        parts.arms(brush, (18, 34), (40, 50))
    if "body" in show:
        brush.oval(0, 22, 29, 23, colour)
        brush.oval(0, 59, 21, 20, colour)
        brush.stroke([(-9, 49), (0, 45), (9, 49)], INK, 2.4)
    if "buttons" in show:
        parts.buttons(brush, [(0, 28), (0, 14)], 4.5)
    if "scarf" in show:
        parts.scarf(brush, 0, 41, 21)
    if "eyes" in show:
        parts.eyes(brush, 0, 66, 9.5, 6.5)
    if "carrot" in show:
        parts.carrot(brush, 0, 56, 30)
    if "hat" in show:
        parts.hat(brush, 0, 77, 38)
