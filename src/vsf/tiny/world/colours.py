"""The colours of things."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vsf.tiny.world.brush import RGB

COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (226, 44, 44),
        "orange": (248, 134, 30),
        "yellow": (252, 216, 56),
        "green": (58, 172, 78),
        "turquoise": (52, 200, 190),
        "blue": (48, 104, 224),
        "purple": (138, 76, 188),
        "pink": (250, 150, 194),
        "brown": (158, 104, 66),
        "gray": (152, 158, 170),
        "white": (252, 252, 250),
    }
)
