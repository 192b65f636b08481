"""Animals. Each function draws the parts named in ``show``; "body" is the animal itself."""

from __future__ import annotations

from collections.abc import Set

from vsf.tiny.world import parts
from vsf.tiny.world.brush import RGB, Brush, blend
from vsf.tiny.world.parts import CREAM, INK, LEAF, ROSE, TAN, WHITE

# Shapes are drawn from back to front: a later one covers an earlier one.


def _dark(colour: RGB) -> RGB:
    return blend(colour, INK, 0.3)


def _light(colour: RGB) -> RGB:
    return blend(colour, WHITE, 0.6)


def cat(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a sitting cat, seen from the front."""
    if "tail" in show:
        brush.curve([(16, 8), (34, 7), (43, 20), (38, 38), (45, 52)], colour, 9)
        brush.curve([(39, 41), (41, 47), (45, 52)], CREAM, 9)
    if "body" in show:
        brush.blob([(-27, 10), (-22, 34), (-10, 48), (10, 48), (22, 34), (27, 10), (16, 0), (-16, 0)], colour)
        brush.oval(0, 18, 12, 17, _light(colour))
        for side in (-1, 1):
            brush.polygon([(side * 28, 66), (side * 27, 95), (side * 7, 80)], colour)
            brush.polygon([(side * 22, 76), (side * 22.5, 86), (side * 15, 80)], ROSE)
        brush.oval(0, 63, 30, 22, colour)
        brush.polygon([(-4, 58), (4, 58), (0, 54)], (230, 90, 110))
        brush.stroke([(-8, 50), (-4, 48), (0, 53.5), (4, 48), (8, 50)], INK, 2)
    if "paws" in show:
        for x in (-12, 12):
            brush.oval(x, 5, 11, 7.5, WHITE)
            brush.ovals([(x - 5, 4, 1.4, 2.4), (x, 4.5, 1.4, 2.4), (x + 5, 4, 1.4, 2.4)], ROSE)
    if "whiskers" in show:
        for side in (-1, 1):
            for rise in (-4, 1, 6):
                brush.line([(side * 14, 54 + rise * 0.4), (side * 42, 53 + rise * 1.6)], WHITE, 1.2)
    if "collar" in show:
        parts.collar(brush, 0, 43, 19)
    if "eyes" in show:
        parts.eyes(brush, 0, 67, 13, 9)
    if "hat" in show:
        parts.hat(brush, 0, 82, 34)


def dog(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a sitting dog with a long snout and hanging ears."""
    if "tail" in show:
        brush.curve([(20, 8), (36, 12), (43, 26), (39, 40)], _dark(colour), 8)
    if "body" in show:
        brush.blob([(-26, 8), (-21, 32), (-12, 46), (12, 46), (21, 32), (26, 8), (15, 0), (-15, 0)], colour)
        for x in (-13, 13):
            brush.oval(x, 5, 10, 6.5, _light(colour))
        brush.blob([(-24, 62), (-22, 82), (0, 92), (22, 82), (24, 62), (14, 48), (0, 44), (-14, 48)], colour)
        brush.oval(0, 55, 15, 12, _light(colour))
        brush.oval(0, 60, 6.5, 4.6, INK)
        brush.stroke([(0, 57), (0, 49)], INK, 2)
        brush.blob([(-4.5, 49), (4.5, 49), (3.5, 41), (-3.5, 41)], (238, 96, 120))
    if "ears" in show:
        for side in (-1, 1):
            shape = [(side * 17, 88), (side * 30, 86), (side * 39, 62), (side * 33, 48), (side * 25, 60)]
            brush.blob(shape, _dark(colour))
    if "collar" in show:
        parts.collar(brush, 0, 40, 17)
    if "eyes" in show:
        parts.eyes(brush, 0, 74, 10.5, 7.5)
    if "bone" in show:
        knobs = [(x, y, 5, 5) for x in (-43, -17) for y in (2, 10)]
        brush.ovals([*knobs, (-30, 6, 13, 4)], CREAM)
    if "hat" in show:
        parts.hat(brush, 0, 86, 32)


def rabbit(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a sitting rabbit, seen from the front."""
    if "tail" in show:
        brush.ovals([(29, 10, 9, 9), (33, 15, 6, 6)], WHITE)
    if "ears" in show:
        for side in (-1, 1):
            brush.blob([(side * 5, 66), (side * 5, 90), (side * 13, 99), (side * 20, 88), (side * 17, 66)], colour)
            brush.blob([(side * 9, 70), (side * 9, 86), (side * 13, 93), (side * 16, 85), (side * 14, 70)], ROSE)
    if "body" in show:
        brush.blob([(-28, 12), (-20, 34), (0, 42), (20, 34), (28, 12), (16, 0), (-16, 0)], colour)
        brush.oval(0, 16, 13, 14, WHITE)
        for x in (-17, 17):
            brush.oval(x, 4, 12, 6, colour)
        brush.oval(0, 52, 24, 20, colour)
        brush.ovals([(-15, 46, 4.5, 3), (15, 46, 4.5, 3)], ROSE)
        brush.polygon([(-3.5, 50), (3.5, 50), (0, 46.5)], (230, 90, 110))
        brush.box(-3.5, 36, 3.5, 42, WHITE, 1)
    if "eyes" in show:
        parts.eyes(brush, 0, 57, 10.5, 7.5)
    if "carrot" in show:
        brush.ovals([(-4, 27, 5, 5), (-5, 21, 5, 4)], LEAF)
        parts.carrot(brush, 0, 24, 34)
    if "bow" in show:
        parts.bow(brush, -13, 71, 12)


def bird(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a small bird that looks to the right."""
    if "tail" in show:
        brush.polygon([(-16, 34), (-47, 52), (-48, 36), (-40, 28), (-14, 22)], _dark(colour))
    if "feet" in show:
        for x in (-5, 9):
            brush.line([(x, 16), (x, 1)], (240, 150, 40), 2.6)
            brush.line([(x - 5, 1), (x + 7, 1)], (240, 150, 40), 2.6)
    if "body" in show:
        brush.ovals([(0, 34, 27, 22), (14, 62, 19, 18)], colour)
        brush.oval(8, 28, 15, 13, _light(colour))
    if "wings" in show:
        wing = [(-26, 46), (-4, 50), (8, 38), (-2, 24), (-18, 20), (-34, 24), (-28, 33)]
        brush.blob(wing, blend(colour, (30, 40, 120), 0.5))
        brush.curve([(-24, 32), (-12, 30), (-2, 34)], CREAM, 1.5)
    if "beak" in show:
        parts.beak(brush, [(30, 68), (30, 55), (47, 60)])
    if "eyes" in show:
        parts.eye(brush, 19, 67, 6.5)
    if "crown" in show:
        parts.crown(brush, 13, 79, 24)


def penguin(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a penguin, seen from the front."""
    if "feet" in show:
        for x in (-12, 12):
            brush.oval(x, 4, 12, 5.5, (255, 160, 40))
    if "body" in show:
        brush.blob([(-27, 30), (-21, 66), (0, 92), (21, 66), (27, 30), (15, 4), (-15, 4)], colour)
    if "wings" in show:
        for side in (-1, 1):
            shape = [(side * 19, 56), (side * 28, 52), (side * 41, 26), (side * 38, 20), (side * 25, 30)]
            brush.blob(shape, _dark(colour))
    if "body" in show:
        brush.blob([(-18, 30), (-12, 52), (0, 56), (12, 52), (18, 30), (10, 9), (-10, 9)], WHITE)
        brush.ovals([(-8, 70, 11, 11), (8, 70, 11, 11)], WHITE)
    if "eyes" in show:
        parts.eyes(brush, 0, 73, 8.5, 5.5)
    if "beak" in show:
        parts.beak(brush, [(-9, 65), (9, 65), (0, 54)])
    if "scarf" in show:
        parts.scarf(brush, 0, 50, 23)
    if "hat" in show:
        parts.hat(brush, 0, 83, 34)


def fish(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a fish that swims to the right."""
    if "tail" in show:
        brush.polygon([(-20, 42), (-48, 66), (-42, 42), (-48, 18)], _dark(colour))
    if "fins" in show:
        brush.blob([(-14, 58), (-8, 84), (14, 76), (16, 58)], blend(colour, (255, 220, 60), 0.6))
        brush.blob([(-8, 24), (-12, 6), (8, 12), (8, 24)], blend(colour, (255, 220, 60), 0.6))
    if "body" in show:
        brush.blob([(-28, 42), (-14, 60), (12, 66), (34, 54), (42, 42), (34, 30), (12, 18), (-14, 24)], colour)
        brush.stroke([(28, 35), (34, 34), (40, 38)], INK, 2.2)
    if "stripes" in show:
        for x, reach in ((-14, 13), (-1, 18), (12, 19)):
            brush.curve([(x, 42 + reach), (x + 4, 42), (x, 42 - reach)], WHITE, 4.5)
    if "eyes" in show:
        parts.eye(brush, 27, 48, 8)
    if "bubbles" in show:
        parts.bubbles(brush, [(44, 62, 4), (38, 76, 5.5), (47, 90, 4)])
    if "crown" in show:
        parts.crown(brush, 20, 64, 26)


def elephant(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw an elephant, seen from the front."""
    if "ears" in show:
        for side in (-1, 1):
            brush.blob([(side * 16, 78), (side * 38, 88), (side * 49, 66), (side * 38, 42), (side * 18, 50)], colour)
            brush.blob([(side * 22, 74), (side * 37, 79), (side * 43, 65), (side * 35, 50), (side * 22, 56)], ROSE)
    if "body" in show:
        brush.oval(0, 34, 30, 24, colour)
        for x in (-18, 18):
            brush.box(x - 10, 0, x + 10, 28, colour, 5)
            brush.ovals([(x - 5, 3, 2.6, 2.6), (x + 5, 3, 2.6, 2.6)], CREAM)
        brush.oval(0, 66, 25, 24, colour)
    if "tusks" in show:
        for side in (-1, 1):
            brush.blob([(side * 9, 54), (side * 17, 54), (side * 23, 36), (side * 13, 42)], WHITE)
    if "trunk" in show:
        brush.curve([(0, 62), (0, 46), (1, 32), (8, 23), (19, 25)], blend(colour, INK, 0.12), 12)
    if "eyes" in show:
        parts.eyes(brush, 0, 72, 12.5, 6.5)
    if "hat" in show:
        parts.hat(brush, 0, 84, 34)
    if "bow" in show:
        parts.bow(brush, 26, 84, 13)


def snail(brush: Brush, show: Set[str], colour: RGB) -> None:
    """Draw a snail that crawls to the right."""
    if "body" in show:
        outline = [(-48, 3), (-30, 12), (10, 14), (24, 40), (38, 48), (47, 38), (42, 18), (32, 3), (0, 0)]
        brush.blob(outline, blend(TAN, CREAM, 0.4))
        brush.stroke([(35, 29), (40, 27), (45, 31)], INK, 2.2)
    if "shell" in show:
        brush.oval(-8, 36, 29, 28, colour)
        swirl = [(-35, 30), (-26, 53), (-3, 57), (11, 40), (2, 23), (-15, 24), (-20, 38), (-9, 45), (-3, 37)]
        brush.curve(swirl, blend(colour, INK, 0.45), 2.4)
    if "eyes" in show:
        for x, top in ((32, 66), (43, 64)):
            brush.line([(x + (2 if x < 40 else 0), 44), (x, top)], blend(TAN, CREAM, 0.4), 3)
            parts.eye(brush, x, top + 3, 6)
    if "bow" in show:
        parts.bow(brush, 32, 22, 11)
    if "leaves" in show:
        brush.blob([(18, 1), (26, 16), (46, 14), (49, 0), (34, -3)], LEAF)
        brush.line([(24, 3), (44, 9)], (176, 220, 110), 1.5)
