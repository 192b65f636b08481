"""Write contact sheets of the synthetic scenes: ``python -m vsf.tiny.world.sheet objects objects.png``."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from PIL import Image, ImageDraw

from vsf.tiny.world.captions import caption
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.renderer import SIZE, render
from vsf.tiny.world.scenes import Scene, Thing, sample_scene
from vsf.tiny.world.styles import STYLES

Cells = list[tuple[str, Scene]]
_TITLE = 12  # pixels above a picture
_COLUMNS = 8


def objects() -> list[Cells]:
    """Return a row for each object: bare, with its essential parts, without each of those, and with each other part."""
    return [_object_row(name) for name in OBJECTS]


def places() -> list[Cells]:
    """Return a row for each place: bare, with all its parts, and with each alone; then a row of styles."""
    cat = _scene("cat", OBJECTS["cat"].essential)
    rows: list[Cells] = []
    for name, place in PLACES.items():
        bare = replace(cat, place=name, place_parts=frozenset())
        row = [(name, bare), ("all", replace(bare, place_parts=frozenset(place.parts)))]
        row += [(part, replace(bare, place_parts=frozenset({part}))) for part in place.parts]
        rows.append(row)
    car = _scene("car", OBJECTS["car"].parts)
    rows.append([(style, replace(car, style=style)) for style in STYLES])
    return rows


def loose() -> list[Cells]:
    """Return every part alone."""
    cells: Cells = []
    for name, kind in OBJECTS.items():
        for part in kind.parts:
            thing = replace(_scene(name, (part,)).things[0], size=0.7, body=False)
            cells.append((f"{name}: {part}", replace(_scene(name, ()), things=(thing,))))
    return _rows(cells)


def scenes() -> list[Cells]:
    """Return random scenes, each titled by the start of one of its captions."""
    rng = random.Random(0)
    random_scenes = [sample_scene(rng) for _ in range(6 * _COLUMNS)]
    return _rows([(caption(scene, rng)[:22], scene) for scene in random_scenes])


SHEETS: Mapping[str, Callable[[], list[Cells]]] = MappingProxyType(
    {"objects": objects, "places": places, "loose": loose, "scenes": scenes}
)


def write_sheet(rows: Sequence[Cells], path: Path, size: int = SIZE) -> None:
    """Write rows of scenes with a title above each.

    Args:
        rows: Titles and scenes.
        path: File to write.
        size: Side of a picture in pixels.
    """
    width = max(len(row) for row in rows) * size
    sheet = Image.new("RGB", (width, len(rows) * (size + _TITLE)), "white")
    draw = ImageDraw.Draw(sheet)
    for row_number, row in enumerate(rows):
        top = row_number * (size + _TITLE)
        for column, (title, scene) in enumerate(row):
            draw.text((column * size + 2, top), title, fill="black")
            sheet.paste(render(scene, size), (column * size, top + _TITLE))
    sheet.save(path, optimize=True)


def _object_row(name: str) -> Cells:
    kind = OBJECTS[name]
    essential = frozenset(kind.essential)
    row = [(name, _scene(name, ())), ("essential", _scene(name, essential))]
    row += [(f"no {part}", _scene(name, essential - {part})) for part in kind.essential]
    row += [(f"+ {part}", _scene(name, essential | {part})) for part in kind.optional]
    return row


def _scene(name: str, parts: Iterable[str]) -> Scene:
    """Return a scene of one object with these parts, on grass."""
    thing = Thing(name, frozenset(parts), OBJECTS[name].usual or "red", 0.5, 0.78)
    return Scene((thing,), "grass", frozenset({"clouds"}))


def _rows(cells: Cells) -> list[Cells]:
    return [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]


def main() -> None:
    """Write the sheet that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m vsf.tiny.world.sheet", description="Write a contact sheet.")
    parser.add_argument("sheet", choices=SHEETS, help="the sheet to write")
    parser.add_argument("path", type=Path, help="file to write")
    options = parser.parse_args()
    write_sheet(SHEETS[options.sheet](), options.path)


if __name__ == "__main__":
    main()
