"""Draw outlined shapes in an object's own units, in the tones of a style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]
Oval = tuple[float, float, float, float]

_OUTLINE: RGB = (34, 24, 44)
_CURVE_STEPS = 6  # straight pieces between two points of a smooth line


@dataclass(frozen=True)
class Look:
    """Colours of fills and outlines, and the width of outlines.

    Attributes:
        veil: Colour that fills are moved towards.
        veil_share: How far they are moved, from 0 to 1.
        ink: Colour of outlines; by default a darker fill.
        line: Width of outlines in an object's units; 0 draws none.
    """

    veil: RGB = (255, 255, 255)
    veil_share: float = 0.0
    ink: RGB | None = None
    line: float = 1.7

    def tone(self, fill: RGB) -> RGB:
        """Return the colour that a fill has in this look."""
        return blend(fill, self.veil, self.veil_share)

    def edge(self, fill: RGB) -> RGB:
        """Return the colour of the outline around a fill."""
        return self.ink or self.tone(blend(fill, _OUTLINE, 0.5))


@lru_cache(maxsize=4096)
def blend(first: RGB, second: RGB, amount: float) -> RGB:
    """Move ``first`` towards ``second`` by ``amount`` (0 to 1)."""
    red, green, blue = (round(start + (end - start) * amount) for start, end in zip(first, second, strict=True))
    return red, green, blue


class Brush:
    """Draws in units of a hundredth of a box: x to the right of its middle, y up from the ground.

    Args:
        draw: The picture to draw on.
        origin: Pixel of the point (0, 0).
        unit: Pixels per unit.
        look: Colours of fills and outlines.
    """

    def __init__(self, draw: ImageDraw, origin: Point, unit: float, look: Look) -> None:
        self._draw = draw
        self._x, self._y = origin
        self._unit = unit
        self._look = look
        # An outline thinner than a pixel would vanish.
        self._rim = max(look.line * unit, 1.0) if look.line else 0.0

    def oval(self, x: float, y: float, rx: float, ry: float, fill: RGB) -> None:
        """Draw an ellipse around (x, y)."""
        self.ovals([(x, y, rx, ry)], fill)

    def ovals(self, ovals: Sequence[Oval], fill: RGB) -> None:
        """Draw several ellipses (x, y, rx, ry) with one common outline."""
        # All outlines come before all fills, so that overlapping ovals look like one shape.
        for grow, colour in self._layers(fill):
            for x, y, rx, ry in ovals:
                px, py = self._at(x, y)
                rx_px = rx * self._unit + grow
                ry_px = ry * self._unit + grow
                self._draw.ellipse((px - rx_px, py - ry_px, px + rx_px, py + ry_px), fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, radius: float = 2.0) -> None:
        """Draw a rounded rectangle from (x0, y0), lower left, to (x1, y1), upper right."""
        left_px, bottom_px = self._at(x0, y0)
        right_px, top_px = self._at(x1, y1)
        corner = radius * self._unit
        for grow, colour in self._layers(fill):
            edges = (left_px - grow, top_px - grow, right_px + grow, bottom_px + grow)
            if corner + grow:
                self._draw.rounded_rectangle(edges, corner + grow, fill=colour)
            else:
                self._draw.rectangle(edges, fill=colour)

    def polygon(self, points: Sequence[Point], fill: RGB) -> None:
        """Draw a filled polygon with rounded outer corners."""
        corners = [self._at(x, y) for x, y in points]
        if self._rim:
            # The line runs on to the second corner, so that the joint at the first one is rounded too.
            closed = [*corners, *corners[:2]]
            self._draw.line(closed, fill=self._look.edge(fill), width=round(2 * self._rim), joint="curve")
        self._draw.polygon(corners, fill=self._look.tone(fill))

    def blob(self, points: Sequence[Point], fill: RGB) -> None:
        """Draw a filled smooth closed curve through the points."""
        corners = [self._at(x, y) for x, y in smooth(tuple(points), closed=True)]
        if self._rim:
            width = round(2 * self._rim)
            self._draw.line([*corners, *corners[:2]], fill=self._look.edge(fill), width=width, joint=_joint(width))
        self._draw.polygon(corners, fill=self._look.tone(fill))

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """Draw a thick line with round ends and an outline."""
        self._track([self._at(x, y) for x, y in points], fill, width, bent=True)

    def curve(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """Draw a thick smooth line through the points, with round ends and an outline."""
        self._track([self._at(x, y) for x, y in smooth(tuple(points), closed=False)], fill, width)

    def stroke(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """Draw a smooth line through the points without an outline, for mouths, folds and strings."""
        track = [self._at(x, y) for x, y in smooth(tuple(points), closed=False)]
        thickness = max(1, round(width * self._unit))
        self._draw.line(track, fill=self._look.tone(fill), width=thickness, joint=_joint(thickness))

    def _track(self, track: list[Point], fill: RGB, width: float, bent: bool = False) -> None:
        """Draw a line along pixels with round ends and an outline; ``bent`` fills the gaps at its corners."""
        for grow, colour in self._layers(fill):
            radius = width * self._unit / 2 + grow
            thickness = max(1, round(2 * radius))
            self._draw.line(track, fill=colour, width=thickness, joint="curve" if bent else _joint(thickness))
            # Pillow cuts the ends of a line off square.
            for px, py in (track[0], track[-1]):
                self._draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=colour)

    def _at(self, x: float, y: float) -> Point:
        """Return the pixel of a point."""
        return self._x + x * self._unit, self._y - y * self._unit

    def _layers(self, fill: RGB) -> list[tuple[float, RGB]]:
        """Return the layers of a shape, bottom first: by how many pixels each is larger, and its colour."""
        layers = [(self._rim, self._look.edge(fill))] if self._rim else []
        return [*layers, (0.0, self._look.tone(fill))]


def _joint(width: int) -> Literal["curve"] | None:
    """Return how Pillow joins the pieces of a smooth line: gaps show in thick lines only, and filling them is slow."""
    return "curve" if width > 6 else None


@lru_cache(maxsize=4096)
def smooth(points: tuple[Point, ...], closed: bool) -> tuple[Point, ...]:
    """Return a Catmull-Rom curve through the points as a chain of short straight pieces."""
    last = len(points) - 1

    # An open curve repeats its end points, which have no neighbour on one side.
    def point(index: int) -> Point:
        return points[index % len(points)] if closed else points[min(max(index, 0), last)]

    chain: list[Point] = []
    for index in range(len(points) if closed else last):
        before = point(index - 1)
        start = point(index)
        end = point(index + 1)
        after = point(index + 2)
        for step in range(_CURVE_STEPS):
            t = step / _CURVE_STEPS
            x = _cubic(before[0], start[0], end[0], after[0], t)
            y = _cubic(before[1], start[1], end[1], after[1], t)
            chain.append((x, y))
    return tuple(chain) if closed else (*chain, points[-1])


def _cubic(before: float, start: float, end: float, after: float, t: float) -> float:
    """Return the coordinate at ``t``, from 0 to 1, between start and end."""
    slope_in = (end - before) / 2
    slope_out = (after - start) / 2
    bend = 2 * start - 2 * end + slope_in + slope_out
    return start + slope_in * t + (3 * (end - start) - 2 * slope_in - slope_out) * t**2 + bend * t**3
