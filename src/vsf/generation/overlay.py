"""Draw a heat map over a picture: where in it a negative prompt acted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.generation.sheet import INK, PAPER, SMALLEST_CELL, write_line

if TYPE_CHECKING:
    from PIL.Image import Image

STRIP = 52  # pixels of the legend below the picture
GAP = 10
RAMP = ((0.05, 0.03, 0.25), (0.42, 0.07, 0.45), (0.83, 0.25, 0.32), (0.98, 0.60, 0.20), (1.00, 0.98, 0.70))
"""Colours from none to most in even steps, each lighter than the one before: grey print keeps the order."""


def overlay(picture: Image, heat: Float[Tensor, "height width"], text: str) -> Image:
    """Lay a map of attention over a picture, with a legend that gives the share of the brightest colour.

    Args:
        picture: the picture, of any size.
        heat: share of the attention, 0 to 1, on a grid over the picture, as from `Report.heat_map`.
        text: the negative prompt of the map.
    """
    from PIL import Image

    factor = max(1, -(-SMALLEST_CELL // max(picture.size)))  # rounded up
    width = picture.width * factor
    height = picture.height * factor
    shares = _smooth(heat, height, width)
    highest = float(heat.max())
    # Bicubic values overshoot.
    level = (shares / highest if highest > 0 else shares).clamp(0, 1)
    # The picture goes grey, so that every colour in the result is the map's.
    grey = _pixels(picture.convert("L").convert("RGB").resize((width, height), Image.Resampling.NEAREST))
    sheet = Image.new("RGB", (width, height + STRIP), PAPER)
    sheet.paste(_image(_tinted(grey, level)), (0, 0))
    _draw_legend(sheet, height, highest, text)
    return sheet


def _smooth(heat: Float[Tensor, "rows columns"], height: int, width: int) -> Float[Tensor, "height width"]:
    values = heat.detach().float().cpu()
    return F.interpolate(values[None, None], (height, width), mode="bicubic", align_corners=False)[0, 0]


def _tinted(
    grey: Float[Tensor, "#height #width 3"], level: Float[Tensor, "height width"]
) -> Float[Tensor, "height width 3"]:
    """Blend the colours of levels over grey; higher levels are more opaque, and even the highest lets grey through."""
    opacity = 0.3 + 0.45 * level[..., None]
    return (1 - opacity) * grey + opacity * _colours(level)


def _colours(level: Float[Tensor, "height width"]) -> Float[Tensor, "height width 3"]:
    """Look up levels from 0 to 1 in the ramp, interpolating between neighbouring colours."""
    ramp = torch.tensor(RAMP)
    position = level * (len(RAMP) - 1)
    below = position.floor().long().clamp(max=len(RAMP) - 2)
    fraction = (position - below)[..., None]
    return (1 - fraction) * ramp[below] + fraction * ramp[below + 1]


def _draw_legend(sheet: Image, top: int, highest: float, text: str) -> None:
    """Draw a bar of the ramp between its ends in per cent, and a line that names the negative."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    low = "0%"
    high = f"{highest:.2%}"
    left = GAP + round(pen.textlength(low, font=font)) + GAP
    right = sheet.width - GAP - round(pen.textlength(high, font=font)) - GAP
    bar = torch.linspace(0, 1, max(1, right - left)).expand(12, -1)
    sheet.paste(_image(_tinted(torch.full((1, 1, 3), 0.5), bar)), (left, top + 8))
    pen.text((GAP, top + 6), low, fill=INK, font=font)
    pen.text((right + GAP, top + 6), high, fill=INK, font=font)
    write_line(pen, font, f"of the attention on: {text}", (GAP, top + 28), sheet.width - 2 * GAP, INK)


def _pixels(picture: Image) -> Float[Tensor, "height width 3"]:
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.reshape(picture.height, picture.width, 3) / 255


def _image(pixels: Float[Tensor, "height width 3"]) -> Image:
    from PIL import Image

    height, width, _ = pixels.shape
    return Image.frombytes("RGB", (width, height), (pixels * 255).round().byte().numpy().tobytes())
