"""Parts that several objects share, so that a word looks alike wherever it appears."""

from __future__ import annotations

from collections.abc import Sequence

from vsf.tiny.brush import RGB, Brush, Point

INK: RGB = (44, 40, 50)
STEEL: RGB = (214, 219, 228)
CREAM: RGB = (255, 246, 226)
WOOD: RGB = (116, 72, 46)
NAVY: RGB = (42, 54, 98)
GLASS: RGB = (160, 224, 246)
GOLD: RGB = (250, 206, 70)
CRIMSON: RGB = (196, 22, 62)
MAGENTA: RGB = (222, 34, 134)
TEAL: RGB = (0, 134, 140)
TAN: RGB = (206, 160, 100)


def wheel(brush: Brush, x: float, y: float, radius: float) -> None:
    """A dark tyre around a light hub."""
    brush.oval(x, y, radius, radius, INK)
    brush.oval(x, y, radius * 0.52, radius * 0.52, STEEL)
    brush.oval(x, y, radius * 0.14, radius * 0.14, INK)


def window(brush: Brush, points: Sequence[Point]) -> None:
    """Glass in a dark frame; `points` are the corners of the glass."""
    brush.line([*points, points[0]], NAVY, 4)
    brush.polygon(points, GLASS)


def square_window(brush: Brush, x: float, y: float, width: float, height: float) -> None:
    """A window whose lower left corner is (x, y)."""
    brush.box(x, y, x + width, y + height, NAVY)
    brush.box(x + 3, y + 3, x + width - 3, y + height - 3, GLASS, 1)


def round_window(brush: Brush, x: float, y: float, radius: float) -> None:
    """A porthole."""
    brush.oval(x, y, radius, radius, NAVY)
    brush.oval(x, y, radius - 3, radius - 3, GLASS)


def door(brush: Brush, x: float, y: float, width: float, height: float) -> None:
    """A wooden door in a light frame, its foot centred on (x, y)."""
    half = width / 2
    brush.box(x - half, y, x + half, y + height, CREAM, 3)
    brush.box(x - half + 3, y, x + half - 3, y + height - 3, WOOD, 2)
    brush.oval(x + half - 6, y + height * 0.42, 1.6, 1.6, GOLD)


def light(brush: Brush, x: float, y: float) -> None:
    """A bright lamp in a dark socket."""
    brush.oval(x, y, 11.5, 11.5, INK)
    brush.oval(x, y, 8.5, 8.5, (255, 246, 150))


def flag(brush: Brush, x: float, y: float, height: float) -> None:
    """A striped pennant on a pole that stands on (x, y)."""
    top = y + height
    brush.line([(x, y), (x, top)], INK, 3)
    brush.polygon([(x + 1, top), (x + 1, top - 20), (x + 28, top - 10)], MAGENTA)
    brush.polygon([(x + 5, top - 6), (x + 5, top - 14), (x + 14, top - 10)], CREAM)


def hat(brush: Brush, x: float, y: float, width: float) -> None:
    """A top hat with a golden band, its brim on height y."""
    half = width / 2
    brush.box(x - half * 0.64, y, x + half * 0.64, y + 17, INK, 3)
    brush.box(x - half * 0.64, y + 4, x + half * 0.64, y + 9, GOLD, 0)
    brush.box(x - half, y - 2, x + half, y + 4, INK, 3)


def eyes(brush: Brush, y: float, gap: float, radius: float) -> None:
    """Two round eyes that look ahead, `gap` from the middle."""
    for x in (-gap, gap):
        brush.oval(x, y, radius, radius, INK)
        brush.oval(x, y, radius * 0.78, radius * 0.78, (255, 255, 255))
        brush.oval(x + radius * 0.1, y - radius * 0.05, radius * 0.42, radius * 0.42, INK)


def arms(brush: Brush, shoulder: Point, hand: Point) -> None:
    """Two wooden arms with light mittens, mirrored."""
    for side in (-1, 1):
        brush.line([(side * shoulder[0], shoulder[1]), (side * hand[0], hand[1])], WOOD, 10)
        brush.oval(side * hand[0], hand[1], 9.5, 9.5, CREAM)


def legs(brush: Brush, places: Sequence[float], height: float, width: float) -> None:
    """Wooden legs with light feet at the given x."""
    half = width / 2
    for x in places:
        brush.box(x - half, 0, x + half, height, WOOD)
        brush.box(x - half - 2, -1, x + half + 2, 6, CREAM, 3)


def scarf(brush: Brush, y: float, half: float) -> None:
    """A striped scarf around a neck at height y, one end hanging down."""
    brush.box(5, y - 22, 15, y, CREAM, 2)
    brush.box(5, y - 22, 15, y - 12, TEAL, 2)
    brush.box(-half, y - 5, half, y + 5, TEAL, 5)
    for x in (-half * 0.5, half * 0.5):
        brush.box(x - 3, y - 5, x + 3, y + 5, CREAM, 0)


def apples(brush: Brush, places: Sequence[Point], radius: float) -> None:
    """Crimson apples with a light rim and a leaf."""
    for x, y in places:
        brush.oval(x, y, radius, radius, CREAM)
        brush.oval(x, y, radius - 2, radius - 2, CRIMSON)
        brush.oval(x + 1.5, y + radius - 1, 2.6, 1.6, (70, 150, 50))


def candles(brush: Brush, places: Sequence[float], y: float, height: float) -> None:
    """Striped candles with a flame, standing on height y."""
    for x in places:
        brush.box(x - 5, y, x + 5, y + height, CREAM, 1)
        brush.box(x - 5, y + height * 0.3, x + 5, y + height * 0.62, TEAL, 0)
        brush.oval(x, y + height + 8, 6, 9, (255, 150, 30))
        brush.oval(x, y + height + 6, 3, 5, (255, 240, 150))
