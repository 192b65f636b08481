"""Figures with eyes. Each function draws the parts named in `show`; "body" is the object itself."""

from __future__ import annotations

from collections.abc import Set

from vsf.tiny.brush import RGB, Brush
from vsf.tiny.objects import parts
from vsf.tiny.objects.parts import CREAM, GOLD, INK, MAGENTA, STEEL

# Shapes are drawn from back to front: a later one covers an earlier one.


def cat(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A sitting cat, seen from the front."""
    if "tail" in show:
        curve = [(18, 8), (34, 8), (42, 16), (44, 30), (40, 44)]
        brush.line(curve, CREAM, 10)
        for start, end in (((33, 8), (34, 8)), ((43, 25), (43, 26)), ((41, 43), (40, 45))):
            brush.line([start, end], INK, 8)
    if "body" in show:
        brush.ovals([(0, 24, 27, 24), (0, 12, 30, 12)], colour)
        for side in (-1, 1):
            brush.polygon([(side * 27, 64), (side * 24, 90), (side * 6, 78)], colour)
        brush.oval(0, 62, 28, 21, colour)
        brush.polygon([(-3.5, 55), (3.5, 55), (0, 51)], INK)
    if "paws" in show:
        for x in (-13, 13):
            brush.oval(x, 7, 12.5, 9.5, (92, 66, 62))
            brush.ovals([(x - 6, 6, 2.6, 3.4), (x, 8, 2.6, 3.4), (x + 6, 6, 2.6, 3.4)], (255, 196, 196))
    if "scarf" in show:
        parts.scarf(brush, 40, 25)
    if "eyes" in show:
        parts.eyes(brush, 65, 12.5, 11)
    if "hat" in show:
        parts.hat(brush, 0, 82, 36)


def snowman(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A snowman of two balls."""
    if "arms" in show:
        parts.arms(brush, (18, 34), (41, 50))
    if "body" in show:
        brush.oval(0, 22, 29, 23, colour)
        brush.oval(0, 59, 21, 20, colour)
    if "scarf" in show:
        parts.scarf(brush, 42, 21)
    if "eyes" in show:
        parts.eyes(brush, 68, 10.5, 9.5)
    if "carrot" in show:
        brush.polygon([(-9, 64), (-9, 43), (42, 52)], INK)
        brush.polygon([(-6, 60.5), (-6, 47), (32, 52.5)], (255, 140, 30))
    if "hat" in show:
        parts.hat(brush, 0, 79, 40)


def robot(brush: Brush, show: Set[str], colour: RGB) -> None:
    """A robot with a square head."""
    if "antenna" in show:
        brush.line([(0, 78), (0, 88)], STEEL, 5)
        brush.oval(0, 90, 8, 8, MAGENTA)
    if "legs" in show:
        parts.legs(brush, (-12, 12), 26, 10)
    if "arms" in show:
        parts.arms(brush, (20, 47), (40, 28))
    if "body" in show:
        brush.box(-7, 50, 7, 60, STEEL)
        brush.box(-25, 22, 25, 55, colour, 6)
        brush.box(-22, 57, 22, 81, colour, 6)
        brush.box(-8, 60, 8, 63, INK, 1)
    if "eyes" in show:
        parts.eyes(brush, 72, 11.5, 10)
    if "buttons" in show:
        for x in (-15.5, 0, 15.5):
            brush.oval(x, 38, 8, 8, INK)
            brush.oval(x, 38, 5.8, 5.8, GOLD if x == 0 else CREAM)
