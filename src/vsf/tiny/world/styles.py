"""The styles a scene can be drawn in; the first one is the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image, ImageFilter

from vsf.tiny.world.brush import Look

Matrix = tuple[float, float, float, float, float, float, float, float, float, float, float, float]

_OUTLINED = Look()
_PLAIN = Look(line=0.0)


@dataclass(frozen=True)
class Style:
    """The looks of things and of the place behind them, and a filter over the finished picture.

    Attributes:
        things: Look of things.
        place: Look of the background, by default without outlines.
        colours: Rows of a 3 x 4 matrix on red, green, blue and one, applied to every pixel; None changes nothing.
        blur: Standard deviation of a Gaussian blur, as a fraction of the picture's side.
    """

    things: Look = _OUTLINED
    place: Look = _PLAIN
    colours: Matrix | None = None
    blur: float = 0.0

    def finish(self, image: Image.Image) -> Image.Image:
        """Return the drawn picture with this style's colours and blur."""
        if self.colours:
            image = image.convert("RGB", self.colours)
        return image.filter(ImageFilter.GaussianBlur(self.blur * image.width)) if self.blur else image


def _washed(strength: float, share: float) -> Matrix:
    """Return colours moved towards their own gray by ``strength``, then scaled by ``share`` around a low gray."""
    keep = (1 - strength) * share
    gray = strength * share
    # The weights of luma, as Pillow makes a picture gray.
    red = 0.3 * gray
    green = 0.59 * gray
    blue = 0.11 * gray
    lift = 128 * (1 - share) * 0.72
    return (red + keep, green, blue, lift, red, green + keep, blue, lift, red, green, blue + keep, lift)


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "tidy": Style(),
        "sketchy": Style(
            Look(veil=(253, 247, 232), veil_share=0.3, ink=(40, 36, 46), line=2.4),
            Look(veil=(253, 247, 232), veil_share=0.66, ink=(120, 112, 120), line=0.5),
        ),
        "misty": Style(
            Look(veil=(226, 230, 236), veil_share=0.3), Look(veil=(226, 230, 236), veil_share=0.62, line=0.0)
        ),
        "blurry": Style(blur=0.014),
        "dull": Style(colours=_washed(0.72, 0.62)),
        "vintage": Style(
            colours=(0.36, 0.56, 0.16, 4, 0.31, 0.49, 0.14, -2, 0.23, 0.36, 0.12, -6),
        ),
    }
)
DEFAULT_STYLE = "tidy"
