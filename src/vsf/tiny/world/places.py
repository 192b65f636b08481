"""The places that scenes are set in, and their removable parts.

Places are drawn in hundredths of the picture's side: x to the right of its middle, y up from the horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from vsf.tiny.world.brush import RGB, Brush

Painter = Callable[[Brush, Set[str]], None]

_CLOUD: RGB = (250, 252, 255)
_PINE: RGB = (58, 120, 84)


@dataclass(frozen=True)
class Place:
    """A place: its sky from top to horizon, its ground, and its parts behind and on the ground.

    Attributes:
        zenith: Colour at the picture's top edge.
        haze: Colour just above the horizon.
        ground: Colour below the horizon.
        essential: Parts that are nearly always present.
        optional: Parts that may be present.
        behind: Draws the parts behind the ground, which covers their feet.
        on_ground: Draws the parts that lie on the ground.
    """

    zenith: RGB
    haze: RGB
    ground: RGB
    essential: tuple[str, ...]
    optional: tuple[str, ...]
    behind: Painter
    on_ground: Painter

    @property
    def parts(self) -> tuple[str, ...]:
        """All removable parts, essential ones first."""
        return self.essential + self.optional


def _clouds(brush: Brush, colour: RGB = _CLOUD) -> None:
    puffs = [(-9, 0, 7, 4.5), (0, 3, 8.5, 6.5), (9, 0, 7, 4.5)]
    for x, y, size in ((-33, 51, 1.0), (39, 34, 0.75)):
        brush.ovals([(x + dx * size, y + dy * size, rx * size, ry * size) for dx, dy, rx, ry in puffs], colour)


def _sun(brush: Brush) -> None:
    brush.oval(37, 54, 9.5, 9.5, (255, 240, 170))
    brush.oval(37, 54, 7, 7, (255, 214, 60))


def _moon(brush: Brush) -> None:
    brush.oval(36, 54, 8, 8, (252, 242, 196))
    brush.ovals([(34, 56, 1.8, 1.8), (38.5, 52, 1.4, 1.4)], (226, 214, 166))


def _hills(brush: Brush, near: RGB, far: RGB) -> None:
    # The ground is painted later and covers the lower halves.
    brush.oval(34, -4, 44, 19, far)
    brush.oval(-32, -4, 46, 16, near)


def _pines(brush: Brush, places: tuple[float, ...], height: float, colour: RGB) -> None:
    for x in places:
        brush.box(x - 1, -2, x + 1, 4, (112, 84, 70), 0)
        for low, reach in ((2, 1.0), (9, 0.76), (16, 0.5)):
            foot = low * height / 26
            tip = foot + height * 0.42
            brush.polygon([(x - 8 * reach, foot), (x + 8 * reach, foot), (x, tip)], colour)


def _star_dots(brush: Brush) -> None:
    for x, y in ((-44, 58), (-33, 44), (-22, 61), (-10, 52), (4, 62), (15, 49), (24, 60), (44, 38), (-45, 30)):
        brush.oval(x, y, 1.1, 1.1, (255, 252, 226))


def _grass(brush: Brush, show: Set[str]) -> None:
    if "sun" in show:
        _sun(brush)
    if "clouds" in show:
        _clouds(brush)
    if "hills" in show:
        _hills(brush, (118, 190, 104), (150, 208, 140))


def _on_grass(brush: Brush, show: Set[str]) -> None:
    if "fence" in show:
        for y in (3, 8):
            brush.box(-50, y, 50, y + 1.8, (250, 246, 236), 0)
        for x in range(-46, 50, 12):
            brush.polygon([(x - 1.8, -3), (x - 1.8, 11), (x, 13.5), (x + 1.8, 11), (x + 1.8, -3)], (250, 246, 236))


def _snow(brush: Brush, show: Set[str]) -> None:
    if "clouds" in show:
        _clouds(brush, (232, 238, 248))
    if "mountains" in show:
        for x, peak in ((-32, 40), (34, 33)):
            brush.polygon([(x - 30, -2), (x, peak), (x + 30, -2)], (134, 150, 186))
            cap = [(x - 7.5, peak * 0.75), (x, peak), (x + 7.5, peak * 0.75), (x + 2, peak * 0.8), (x - 3, peak * 0.72)]
            brush.polygon(cap, (248, 250, 255))
    if "pines" in show:
        _pines(brush, (-43, -31, 36, 46), 24, (72, 122, 112))


def _desert(brush: Brush, show: Set[str]) -> None:
    if "sun" in show:
        _sun(brush)
    if "pyramids" in show:
        for x, peak in ((-30, 27), (37, 20)):
            brush.polygon([(x - peak, -1), (x, peak), (x + peak, -1)], (222, 170, 96))
            brush.polygon([(x, peak), (x + peak, -1), (x + peak * 0.25, -1)], (196, 142, 76))


def _on_desert(brush: Brush, show: Set[str]) -> None:
    if "cactus" in show:
        brush.curve([(-47, 4), (-47, 13), (-41, 13)], (66, 146, 84), 3.4)
        brush.curve([(-35, 10), (-35, 17), (-41, 17)], (66, 146, 84), 3.4)
        brush.line([(-41, -4), (-41, 25)], (66, 146, 84), 5)


def _beach(brush: Brush, show: Set[str]) -> None:
    if "sun" in show:
        _sun(brush)
    if "clouds" in show:
        _clouds(brush)
    if "sea" in show:
        brush.box(-50, -1, 50, 13, (30, 140, 190), 0)
        for x, y in ((-40, 9), (-20, 5), (8, 9), (30, 5)):
            brush.curve([(x - 5, y), (x, y + 1.4), (x + 5, y)], (180, 230, 244), 1)


def _on_beach(brush: Brush, show: Set[str]) -> None:
    if "palm" in show:
        brush.curve([(-40, -6), (-42, 12), (-38, 30)], (150, 104, 66), 3.6)
        for dx, dy in ((-13, 0), (-9, 8), (3, 10), (12, 5), (11, -5), (-8, -8)):
            brush.curve([(-38, 30), (-38 + dx * 0.6, 32 + dy * 0.8), (-38 + dx, 28 + dy)], (60, 156, 84), 3.2)


def _night(brush: Brush, show: Set[str]) -> None:
    if "stars" in show:
        _star_dots(brush)
    if "moon" in show:
        _moon(brush)
    if "hills" in show:
        _hills(brush, (48, 58, 104), (60, 66, 122))


# Left edge, right edge and height.
_TOWERS = ((-50, -38, 26), (-38, -29, 40), (-29, -18, 20), (14, 24, 33), (24, 36, 22), (36, 50, 44))


def _city(brush: Brush, show: Set[str]) -> None:
    if "sun" in show:
        _sun(brush)
    if "clouds" in show:
        _clouds(brush)
    if "towers" in show:
        for left, right, height in _TOWERS:
            brush.box(left, -2, right, height, (150, 146, 186), 0)
            for y in range(4, height - 4, 7):
                for x in (left + 2.5, right - 5):
                    brush.box(x, y, x + 2.5, y + 3.5, (252, 236, 170), 0)


def _on_city(brush: Brush, show: Set[str]) -> None:
    if "road" in show:
        brush.box(-50, -30, 50, -10, (104, 106, 118), 0)
        for x in (-44, -24, -4, 16, 36):
            brush.box(x, -29, x + 10, -27, (250, 246, 226), 0)


def _forest(brush: Brush, show: Set[str]) -> None:
    if "sun" in show:
        _sun(brush)
    if "pines" in show:
        _pines(brush, (-34, -16, 18, 34), 30, (86, 146, 108))
        _pines(brush, (-44, -25, 26, 44), 40, _PINE)


def _on_forest(brush: Brush, show: Set[str]) -> None:
    if "mushrooms" in show:
        for x, y, size in ((-43, -13, 1.0), (-34, -20, 0.8), (42, -15, 1.0)):
            brush.box(x - 2 * size, y, x + 2 * size, y + 6 * size, (250, 240, 220), 1)
            brush.oval(x, y + 7 * size, 6 * size, 4 * size, (214, 52, 52))
            brush.ovals([(x - 2.5 * size, y + 8 * size, 1.1, 1), (x + 2 * size, y + 7 * size, 1.1, 1)], (255, 250, 240))


def _room(brush: Brush, show: Set[str]) -> None:
    brush.box(-50, 0, 50, 3, (250, 244, 232), 0)
    if "picture" in show:
        brush.box(-42, 38, -18, 58, (150, 104, 60), 0)
        brush.box(-40, 40, -20, 56, (160, 214, 240), 0)
        brush.polygon([(-40, 40), (-33, 51), (-26, 43), (-23, 47), (-20, 40)], (96, 164, 96))
    if "curtains" in show:
        brush.box(18, 22, 46, 60, (186, 226, 246), 0)
        brush.box(14, 59, 50, 62, (150, 104, 60), 0)
        for left in (14, 38):
            brush.box(left, 16, left + 12, 60, (204, 84, 104), 1)
            brush.box(left + 4, 16, left + 6, 60, (178, 62, 84), 0)


def _on_room(brush: Brush, show: Set[str]) -> None:
    if "rug" in show:
        brush.oval(0, -19, 45, 10, (214, 92, 84))
        brush.oval(0, -19, 39, 8, (250, 226, 180))
        brush.oval(0, -19, 34, 6.5, (92, 130, 190))


def _space(brush: Brush, show: Set[str]) -> None:
    if "stars" in show:
        _star_dots(brush)
    if "planet" in show:
        brush.oval(-32, 50, 10, 10, (238, 152, 84))
        brush.curve([(-48, 46), (-38, 45), (-24, 51), (-16, 55)], (250, 214, 150), 2.4)


def _on_space(brush: Brush, show: Set[str]) -> None:
    if "craters" in show:
        for x, y, reach in ((-36, -8, 8), (36, -12, 9), (-8, -6, 5), (-30, -26, 7), (18, -27, 6)):
            brush.oval(x, y, reach, reach * 0.36, (128, 124, 140))
            brush.oval(x, y - 0.8, reach * 0.8, reach * 0.24, (104, 100, 118))


def _nothing(brush: Brush, show: Set[str]) -> None:
    """Draw the parts of a place that has none here."""


PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "beach": Place(
            (86, 204, 224), (206, 242, 240), (250, 228, 170), ("sea",), ("sun", "clouds", "palm"), _beach, _on_beach
        ),
        "city": Place(
            (160, 196, 232), (238, 226, 226), (172, 170, 176), ("towers",), ("clouds", "sun", "road"), _city, _on_city
        ),
        "desert": Place(
            (252, 190, 138), (255, 232, 192), (230, 178, 106), ("sun",), ("cactus", "pyramids"), _desert, _on_desert
        ),
        "forest": Place(
            (176, 220, 206), (232, 244, 214), (120, 158, 84), ("pines",), ("mushrooms", "sun"), _forest, _on_forest
        ),
        "grass": Place(
            (98, 182, 244), (210, 238, 250), (142, 206, 92), ("clouds",), ("sun", "hills", "fence"), _grass, _on_grass
        ),
        "night": Place((26, 32, 88), (78, 82, 154), (56, 76, 96), ("moon",), ("stars", "hills"), _night, _nothing),
        "room": Place(
            (244, 226, 190), (246, 232, 204), (190, 142, 100), ("rug",), ("picture", "curtains"), _room, _on_room
        ),
        "snow": Place(
            (142, 170, 216), (204, 218, 238), (230, 240, 252), ("pines",), ("mountains", "clouds"), _snow, _nothing
        ),
        "space": Place(
            (22, 16, 50), (58, 36, 92), (152, 148, 162), ("stars",), ("planet", "craters"), _space, _on_space
        ),
    }
)
PLACE_PARTS: tuple[str, ...] = tuple(sorted({part for place in PLACES.values() for part in place.parts}))
