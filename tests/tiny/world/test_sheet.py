import sys

import pytest
from PIL import Image

from vsf.tiny.world import sheet
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES


@pytest.mark.parametrize(("name", "rows"), [("objects", len(OBJECTS)), ("places", len(PLACES) + 1), ("scenes", 6)])
def test_a_sheet_shows_what_it_is_of(name, rows, tmp_path, monkeypatch):
    path = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["sheet", name, str(path)])
    sheet.main()
    assert Image.open(path).height == rows * 140


def test_every_part_is_on_the_sheets_of_objects_and_of_loose_parts():
    shown = [{part for _, scene in row for part in scene.things[0].parts} for row in sheet.objects()]
    assert shown == [set(kind.parts) for kind in OBJECTS.values()]
    assert sum(map(len, sheet.loose())) == sum(len(kind.parts) for kind in OBJECTS.values())
