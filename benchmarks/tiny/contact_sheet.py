"""A sheet of pictures that are large enough to look at, each above its prompt and a question."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsf.generation.sheet import FAINT, GAP, INK, LINE, PAPER, write_line

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 224  # pixels: enough to tell a small part, five in a row on a screen
COLUMNS = 5
LETTERS = 28  # as many as fit on a line beneath a picture


@dataclass(frozen=True)
class Cell:
    """A picture, its prompt, which may take two lines, and the question about it."""

    image: Image
    prompt: str
    question: str


def contact_sheet(cells: Sequence[Cell]) -> Image:
    """Lay out cells row by row; small pictures are enlarged smoothly, which people read better than big pixels."""
    from PIL import Image, ImageDraw, ImageFont

    height = SIDE + 3 * LINE + GAP
    rows = -(-len(cells) // COLUMNS)  # rounded up
    sheet = Image.new("RGB", (GAP + COLUMNS * (SIDE + GAP), GAP + rows * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for index, cell in enumerate(cells):
        row, column = divmod(index, COLUMNS)
        x = GAP + column * (SIDE + GAP)
        y = GAP + row * height
        sheet.paste(cell.image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        lines = [(line, FAINT) for line in textwrap.wrap(cell.prompt, LETTERS)]
        lines.append((cell.question, INK))
        for number, (line, ink) in enumerate(lines):
            write_line(pen, font, line, (x, y + SIDE + 2 + LINE * number), SIDE, ink)
    return sheet
