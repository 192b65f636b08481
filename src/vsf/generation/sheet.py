"""A labelled contact sheet: one column per method, one row per seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

# Pixels; smaller pictures are enlarged by a whole factor, which keeps their own pixels visible.
SMALLEST_CELL = 256
GAP = 12
LINE = 22
INK = (24, 24, 27)
PAPER = (255, 255, 255)
FAINT = (113, 113, 122)


def contact_sheet(
    title: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[str],
    images: Sequence[Image],
    captions: Sequence[str] = (),
) -> Image:
    """Lay out pictures of one size in labelled columns and rows.

    Args:
        title: lines at the top, the first in full ink.
        columns: a label for each column.
        rows: a label for each row, written below each of its pictures.
        images: `len(columns) * len(rows)` pictures, column by column.
        captions: a further text below each picture, wrapped if it is too long; or none at all.
    """
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1, -(-SMALLEST_CELL // max(images[0].size)))  # rounded up
    width = images[0].width * factor
    height = images[0].height * factor
    top = GAP + LINE * len(title) + GAP // 2
    font = ImageFont.load_default(size=15)
    caption_lines = [_wrapped(font, caption, width) for caption in captions]
    cell = LINE + height + LINE * (1 + max(map(len, caption_lines), default=0))
    sheet = Image.new("RGB", (GAP + len(columns) * (width + GAP), top + len(rows) * cell + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, line in enumerate(title):
        write_line(pen, font, line, (GAP, GAP + LINE * index), sheet.width - 2 * GAP, FAINT if index else INK)
    for index, image in enumerate(images):
        column, row = divmod(index, len(rows))
        left = GAP + column * (width + GAP)
        upper = top + row * cell
        bottom = upper + LINE + height
        write_line(pen, font, columns[column], (left, upper), width, INK)
        sheet.paste(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (left, upper + LINE))
        write_line(pen, font, rows[row], (left, bottom), width, FAINT)
        for number, text in enumerate(caption_lines[index] if caption_lines else [], 1):
            write_line(pen, font, text, (left, bottom + LINE * number), width, INK)
    return sheet


def _wrapped(font: FreeTypeFont | ImageFont, text: str, room: int) -> list[str]:
    """Break a text between words into lines that fit; a single word may still be too long."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def write_line(
    pen: ImageDraw,
    font: FreeTypeFont | ImageFont,
    text: str,
    corner: tuple[int, int],
    room: int,
    ink: tuple[int, int, int],
) -> None:
    """Write one line of text, cut short with an ellipsis if it is longer than `room` pixels."""
    line = text
    length = len(text)
    while length and pen.textlength(line, font=font) > room:
        length -= 1
        line = text[:length] + "…"
    pen.text(corner, line, fill=ink, font=font)
