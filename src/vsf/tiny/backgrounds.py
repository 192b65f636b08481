"""The colours of the synthetic scenes and the places they are set in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from vsf.tiny.brush import RGB

Landmark = tuple[Literal["hill", "block", "moon"], tuple[float, float, float, float], RGB]


@dataclass(frozen=True)
class Background:
    """A place: its phrase in captions, its sky from top to horizon, its ground, and shapes on the horizon.

    A landmark is (kind, (left, top, right, bottom), colour) in fractions of the picture, measured down from the
    horizon, or from the picture's top edge for the moon; only the part of a hill above the horizon is visible.
    """

    phrase: str
    zenith: RGB
    haze: RGB
    ground: RGB
    landmarks: tuple[Landmark, ...] = ()


COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (222, 48, 44),
        "orange": (246, 132, 28),
        "yellow": (250, 212, 48),
        "green": (44, 160, 72),
        "blue": (40, 92, 214),
        "purple": (132, 66, 178),
        "pink": (248, 146, 190),
        "white": (252, 252, 250),
    }
)
# Left edge, height and width of each tower, in fractions of the picture.
_TOWERS = (
    (0.0, 0.2, 0.14),
    (0.14, 0.34, 0.1),
    (0.27, 0.24, 0.13),
    (0.6, 0.3, 0.12),
    (0.72, 0.18, 0.12),
    (0.86, 0.36, 0.14),
)
BACKGROUNDS: Mapping[str, Background] = MappingProxyType(
    {
        "grass": Background(
            "on grass",
            (98, 182, 244),
            (206, 236, 250),
            (142, 204, 92),
            (("hill", (-0.3, -0.1, 0.7, 0.1), (112, 182, 96)),),
        ),
        "snow": Background(
            "on snow",
            (142, 164, 206),
            (198, 210, 232),
            (222, 234, 248),
            (("hill", (0.3, -0.14, 1.4, 0.14), (180, 200, 228)),),
        ),
        "desert": Background(
            "in the desert",
            (252, 190, 138),
            (255, 230, 188),
            (224, 164, 92),
            (("hill", (-0.4, -0.1, 0.6, 0.1), (236, 184, 116)), ("hill", (0.4, -0.14, 1.5, 0.14), (238, 190, 126))),
        ),
        "beach": Background(
            "at the beach",
            (86, 204, 224),
            (202, 242, 240),
            (250, 228, 170),
            (("block", (0, -0.12, 1, 0), (26, 138, 182)),),
        ),
        "night": Background(
            "at night", (30, 36, 92), (78, 82, 154), (60, 78, 104), (("moon", (0.8, 0.06, 0.94, 0.2), (252, 240, 190)),)
        ),
        "city": Background(
            "in the city",
            (196, 182, 216),
            (238, 222, 226),
            (146, 146, 156),
            tuple(("block", (x, -height, x + width, 0), (176, 166, 196)) for x, height, width in _TOWERS),
        ),
    }
)
