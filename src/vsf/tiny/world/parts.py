"""Parts that several objects share, so that one word looks alike on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

from vsf.tiny.world.brush import RGB, Brush, Point

INK: RGB = (44, 40, 50)
WHITE: RGB = (255, 255, 255)
STEEL: RGB = (214, 219, 228)
CREAM: RGB = (255, 246, 226)
WOOD: RGB = (126, 78, 50)
NAVY: RGB = (42, 54, 98)
GLASS: RGB = (164, 226, 248)
GOLD: RGB = (252, 206, 62)
CRIMSON: RGB = (200, 24, 60)
MAGENTA: RGB = (226, 40, 138)
TEAL: RGB = (0, 140, 144)
TAN: RGB = (212, 166, 106)
ROSE: RGB = (255, 176, 186)
LEAF: RGB = (38, 128, 66)
CARROT: RGB = (255, 138, 30)


def wheel(brush: Brush, x: float, y: float, radius: float) -> None:
    """Draw a dark tyre around a light hub."""
    brush.oval(x, y, radius, radius, INK)
    brush.oval(x, y, radius * 0.5, radius * 0.5, STEEL)
    brush.oval(x, y, radius * 0.14, radius * 0.14, INK)


def window(brush: Brush, points: Sequence[Point]) -> None:
    """Draw glass in a dark frame; ``points`` are the corners of the glass."""
    brush.line([*points, points[0]], NAVY, 3.5)
    brush.polygon(points, GLASS)


def square_window(brush: Brush, x: float, y: float, width: float, height: float) -> None:
    """Draw a window whose lower left corner is (x, y)."""
    brush.box(x, y, x + width, y + height, NAVY)
    brush.box(x + 3, y + 3, x + width - 3, y + height - 3, GLASS, 1)


def round_window(brush: Brush, x: float, y: float, radius: float) -> None:
    """Draw a porthole."""
    brush.oval(x, y, radius, radius, NAVY)
    brush.oval(x, y, radius - 3, radius - 3, GLASS)


def door(brush: Brush, x: float, y: float, width: float, height: float) -> None:
    """Draw a wooden door in a light frame, its foot centred on (x, y)."""
    half = width / 2
    brush.box(x - half, y, x + half, y + height, CREAM, 3)
    brush.box(x - half + 3, y, x + half - 3, y + height - 3, WOOD, 2)
    brush.oval(x + half - 6, y + height * 0.42, 1.8, 1.8, GOLD)


def light(brush: Brush, x: float, y: float, radius: float = 9.0) -> None:
    """Draw a bright lamp in a dark socket."""
    brush.oval(x, y, radius, radius, INK)
    brush.oval(x, y, radius * 0.72, radius * 0.72, (255, 246, 140))


def flag(brush: Brush, x: float, y: float, height: float) -> None:
    """Draw a pennant on a pole that stands on (x, y)."""
    top = y + height
    brush.line([(x, y), (x, top)], INK, 2.5)
    brush.polygon([(x + 1, top), (x + 1, top - 18), (x + 26, top - 9)], MAGENTA)
    brush.oval(x + 8, top - 9, 3, 3, CREAM)


def hat(brush: Brush, x: float, y: float, width: float) -> None:
    """Draw a top hat with a golden band, its brim on height y."""
    half = width / 2
    brush.box(x - half * 0.62, y, x + half * 0.62, y + 17, INK, 3)
    brush.box(x - half * 0.62, y + 4, x + half * 0.62, y + 8.5, GOLD, 0)
    brush.box(x - half, y - 2, x + half, y + 3, INK, 2.5)


def crown(brush: Brush, x: float, y: float, width: float) -> None:
    """Draw a golden crown with red stones, its lower edge on height y."""
    half = width / 2
    points = [(-half, 0), (-half, 17), (-half * 0.5, 8), (0, 18), (half * 0.5, 8), (half, 17), (half, 0)]
    brush.polygon([(x + dx, y + dy) for dx, dy in points], GOLD)
    for dx in (-half * 0.55, 0, half * 0.55):
        brush.oval(x + dx, y + 4, 2.2, 2.2, CRIMSON)


def bow(brush: Brush, x: float, y: float, size: float) -> None:
    """Draw a ribbon tied into a bow."""
    for side in (-1, 1):
        brush.polygon([(x, y), (x + side * size, y + size * 0.62), (x + side * size, y - size * 0.62)], MAGENTA)
    brush.oval(x, y, size * 0.3, size * 0.3, (255, 160, 210))


def eyes(brush: Brush, x: float, y: float, gap: float, radius: float) -> None:
    """Draw two round eyes that look ahead, ``gap`` to each side of x."""
    for middle in (x - gap, x + gap):
        brush.oval(middle, y, radius, radius, WHITE)
        brush.oval(middle, y, radius * 0.58, radius * 0.58, INK)
        brush.oval(middle - radius * 0.2, y + radius * 0.24, radius * 0.16, radius * 0.16, WHITE)


def eye(brush: Brush, x: float, y: float, radius: float) -> None:
    """Draw one eye of an animal seen from the side."""
    eyes(brush, x, y, 0, radius)


def beak(brush: Brush, points: Sequence[Point]) -> None:
    """Draw a golden beak."""
    brush.polygon(points, (255, 176, 32))


def arms(brush: Brush, shoulder: Point, hand: Point) -> None:
    """Draw two wooden arms with light mittens, mirrored."""
    for side in (-1, 1):
        brush.line([(side * shoulder[0], shoulder[1]), (side * hand[0], hand[1])], WOOD, 7)
        brush.oval(side * hand[0], hand[1], 8, 8, CREAM)


def legs(brush: Brush, places: Sequence[float], height: float, width: float) -> None:
    """Draw wooden legs with light feet at the given x."""
    half = width / 2
    for x in places:
        brush.box(x - half, 0, x + half, height, WOOD)
        brush.box(x - half - 2, -1, x + half + 2, 6, CREAM, 3)


def scarf(brush: Brush, x: float, y: float, half: float) -> None:
    """Draw a striped scarf around a neck at height y, one end hanging down."""
    brush.box(x + half * 0.25, y - 21, x + half * 0.25 + 11, y, TEAL, 2)
    brush.box(x + half * 0.25, y - 21, x + half * 0.25 + 11, y - 15, CREAM, 2)
    brush.box(x - half, y - 5, x + half, y + 5, TEAL, 5)
    for dx in (-half * 0.5, half * 0.5):
        brush.box(x + dx - 2.5, y - 5, x + dx + 2.5, y + 5, CREAM, 0)


def collar(brush: Brush, x: float, y: float, half: float) -> None:
    """Draw a red collar with a golden tag."""
    brush.box(x - half, y - 3.5, x + half, y + 3.5, CRIMSON, 3.5)
    brush.oval(x, y - 6, 5.5, 5.5, GOLD)


def apples(brush: Brush, places: Sequence[Point], radius: float) -> None:
    """Draw crimson apples with a light rim and a leaf."""
    for x, y in places:
        brush.oval(x, y, radius, radius, CREAM)
        brush.oval(x, y, radius - 2, radius - 2, CRIMSON)
        brush.oval(x + 1.5, y + radius - 1, 2.6, 1.6, (90, 170, 60))


def candles(brush: Brush, places: Sequence[float], y: float, height: float) -> None:
    """Draw striped candles with a flame, standing on height y."""
    for x in places:
        brush.box(x - 4.5, y, x + 4.5, y + height, CREAM, 1)
        brush.box(x - 4.5, y + height * 0.3, x + 4.5, y + height * 0.62, TEAL, 0)
        foot = y + height + 1
        brush.blob([(x, foot + 18), (x + 5, foot + 6), (x, foot), (x - 5, foot + 6)], (255, 150, 30))
        brush.blob([(x, foot + 10), (x + 2, foot + 5), (x, foot + 2), (x - 2, foot + 5)], (255, 236, 130))


def carrot(brush: Brush, x: float, y: float, length: float) -> None:
    """Draw a carrot that points to the right from (x, y)."""
    half = length * 0.22
    brush.blob(
        [(x - half, y + half), (x - half, y - half), (x + length * 0.5, y - half * 0.6), (x + length, y)], CARROT
    )


def butterfly(brush: Brush, x: float, y: float) -> None:
    """Draw a violet butterfly around (x, y)."""
    brush.ovals(
        [(x - 8, y + 6, 8, 8), (x + 8, y + 6, 8, 8), (x - 6, y - 6, 6, 6), (x + 6, y - 6, 6, 6)], (146, 84, 226)
    )
    brush.ovals([(x - 8, y + 6, 3, 3), (x + 8, y + 6, 3, 3)], GOLD)
    brush.line([(x, y - 9), (x, y + 9)], INK, 3)


def basket(brush: Brush, x: float, y: float, width: float) -> None:
    """Draw a woven basket whose bottom is centred on (x, y)."""
    half = width / 2
    height = width * 0.72
    brush.polygon([(x - half, y + height), (x + half, y + height), (x + half * 0.7, y), (x - half * 0.7, y)], TAN)
    for share in (0.33, 0.66):
        brush.line([(x - half * 0.72, y + height * share), (x + half * 0.72, y + height * share)], WOOD, 1.6)


def cup(brush: Brush, x: float, y: float) -> None:
    """Draw a mug with a dark band, its bottom centred on (x, y)."""
    brush.oval(x + 10, y + 13, 8, 8, NAVY)
    brush.oval(x + 10, y + 13, 4, 4, CREAM)
    brush.box(x - 10, y, x + 10, y + 25, CREAM, 3)
    brush.box(x - 10, y + 8, x + 10, y + 16, NAVY, 0)


def book(brush: Brush, x: float, y: float, width: float) -> None:
    """Draw a thick closed book that lies on height y."""
    half = width / 2
    brush.box(x - half, y, x + half, y + 12, NAVY, 2)
    brush.box(x - half + 5, y + 3, x + half, y + 9, CREAM, 0)
    brush.box(x - half * 0.3, y, x + half * 0.1, y + 12, CRIMSON, 0)


def nest(brush: Brush, x: float, y: float, width: float) -> None:
    """Draw a nest with three blue eggs, its bottom centred on (x, y)."""
    half = width / 2
    brush.ovals([(x + dx * half, y + 16, half * 0.3, 8) for dx in (-0.5, 0, 0.5)], (150, 220, 244))
    brush.polygon([(x - half, y + 15), (x + half, y + 15), (x + half * 0.66, y), (x - half * 0.66, y)], TAN)
    brush.line([(x - half * 0.76, y + 8), (x + half * 0.76, y + 8)], WOOD, 2.5)


def smoke(brush: Brush, x: float, y: float) -> None:
    """Draw three puffs that rise from (x, y) to the right."""
    brush.ovals([(x, y + 4, 5.5, 5), (x + 8, y + 9, 7, 6.5), (x + 16, y + 13, 8, 7)], (206, 208, 216))


def stars(brush: Brush, places: Sequence[Point], radius: float) -> None:
    """Draw golden five-pointed stars."""
    for x, y in places:
        outline: list[Point] = []
        for corner in range(10):
            length = radius if corner % 2 == 0 else radius * 0.45
            turn = pi * corner / 5
            outline.append((x + length * sin(turn), y + length * cos(turn)))
        brush.polygon(outline, GOLD)


def buttons(brush: Brush, places: Sequence[Point], radius: float) -> None:
    """Draw round dark buttons with a light middle."""
    for x, y in places:
        brush.oval(x, y, radius, radius, INK)
        brush.oval(x, y, radius * 0.5, radius * 0.5, CREAM)


def bubbles(brush: Brush, places: Sequence[tuple[float, float, float]]) -> None:
    """Draw clear bubbles (x, y, radius)."""
    for x, y, radius in places:
        brush.oval(x, y, radius, radius, (206, 240, 255))
        brush.oval(x - radius * 0.3, y + radius * 0.3, radius * 0.22, radius * 0.22, WHITE)


def chimney(brush: Brush, x: float, y: float, height: float) -> None:
    """Draw a brick chimney with a light rim, its foot centred on (x, y)."""
    brush.box(x - 8, y, x + 8, y + height, (186, 72, 54), 1)
    brush.box(x - 11, y + height - 7, x + 11, y + height, CREAM, 2)


def antenna(brush: Brush, x: float, y: float, height: float) -> None:
    """Draw a rod with a pink ball that stands on (x, y)."""
    brush.line([(x, y), (x, y + height)], STEEL, 3.5)
    brush.oval(x, y + height, 6.5, 6.5, MAGENTA)


def tower(brush: Brush, x: float, height: float, width: float, wall: RGB) -> None:
    """Draw a round tower with a pointed roof."""
    half = width / 2
    brush.box(x - half, 0, x + half, height, wall, 1)
    brush.polygon([(x - half - 5, height), (x + half + 5, height), (x, height + 24)], (98, 72, 168))
