"""Draw outlined shapes in an object's own units, in the tones of a style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]
Oval = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """Colours and lines of a style: fills move towards `veil`, outlines take `ink` or a darker fill."""

    veil: RGB = (255, 255, 255)
    veil_on_things: float = 0.0
    veil_on_background: float = 0.0
    ink: RGB | None = None
    line: float = 1.5

    def thing(self, fill: RGB) -> RGB:
        """Return the fill of a thing in this style."""
        return blend(fill, self.veil, self.veil_on_things)

    def background(self, fill: RGB) -> RGB:
        """Return the fill of a background in this style."""
        return blend(fill, self.veil, self.veil_on_background)


@lru_cache(maxsize=1024)
def blend(first: RGB, second: RGB, amount: float) -> RGB:
    """Move `first` towards `second` by `amount` (0 to 1)."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Brush:
    """Draws in units of a hundredth of the thing's box: x to the right of its middle, y up from the ground."""

    def __init__(self, draw: ImageDraw, origin: Point, unit: float, look: Look) -> None:
        """Start at the pixel `origin`, the point (0, 0), with `unit` pixels per unit."""
        self._draw = draw
        self._x, self._y = origin
        self._unit = unit
        self._look = look
        # An outline thinner than a pixel would vanish.
        self._rim = max(look.line * unit, 1.0)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: RGB) -> None:
        """Draw an ellipse around (x, y)."""
        self.ovals([(x, y, rx, ry)], fill)

    def ovals(self, ovals: Sequence[Oval], fill: RGB) -> None:
        """Draw several ellipses (x, y, rx, ry) with one common outline."""
        tone, edge = self._tones(fill)
        # All outlines come before all fills, so that overlapping ovals look like one shape.
        for grow, colour in ((self._rim, edge), (0.0, tone)):
            for x, y, rx, ry in ovals:
                px, py = self._at(x, y)
                rx_px = rx * self._unit + grow
                ry_px = ry * self._unit + grow
                self._draw.ellipse((px - rx_px, py - ry_px, px + rx_px, py + ry_px), fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, radius: float = 2.0) -> None:
        """Draw a rounded rectangle from (x0, y0), lower left, to (x1, y1), upper right."""
        tone, edge = self._tones(fill)
        left_px, bottom_px = self._at(x0, y0)
        right_px, top_px = self._at(x1, y1)
        corner = radius * self._unit
        rim = self._rim
        outer = (left_px - rim, top_px - rim, right_px + rim, bottom_px + rim)
        self._draw.rounded_rectangle(outer, corner + rim, fill=edge)
        self._draw.rounded_rectangle((left_px, top_px, right_px, bottom_px), corner, fill=tone)

    def polygon(self, points: Sequence[Point], fill: RGB) -> None:
        """Draw a filled polygon with rounded outer corners."""
        tone, edge = self._tones(fill)
        corners = [self._at(x, y) for x, y in points]
        # The line runs on to the second corner, so that the joint at the first one is rounded too.
        self._draw.line([*corners, *corners[:2]], fill=edge, width=round(2 * self._rim), joint="curve")
        self._draw.polygon(corners, fill=tone)

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        """Draw a thick line with round ends and an outline."""
        tone, edge = self._tones(fill)
        track = [self._at(x, y) for x, y in points]
        half = width * self._unit / 2
        for radius, colour in ((half + self._rim, edge), (half, tone)):
            self._draw.line(track, fill=colour, width=round(2 * radius), joint="curve")
            # Pillow cuts the ends of a line off square.
            for px, py in (track[0], track[-1]):
                self._draw.ellipse((px - radius, py - radius, px + radius, py + radius), fill=colour)

    def _at(self, x: float, y: float) -> Point:
        return self._x + x * self._unit, self._y - y * self._unit

    def _tones(self, fill: RGB) -> tuple[RGB, RGB]:
        """Return the colours of a fill and of its outline."""
        edge = self._look.ink or self._look.thing(blend(fill, (30, 22, 40), 0.34))
        return self._look.thing(fill), edge
