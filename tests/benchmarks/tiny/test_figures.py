"""Figures beside their bounds, and the JSON they are kept in."""

import json

from figure import Figure, table, write


def test_a_figure_holds_within_its_bounds_and_an_unmeasured_one_neither_holds_nor_fails():
    assert Figure("a", 0.6, low=0.6).held is True
    assert Figure("a", 0.59, low=0.6).held is False
    assert Figure("a", 0.28, low=0.13, high=0.27).held is False
    assert Figure("a", None, low=0.6).held is None


def test_the_table_says_value_bound_and_outcome_of_every_figure():
    lines = table([Figure("speed", 1.7, high=1.5), Figure("look", None, low=0.95, note="needs a human")]).splitlines()
    assert lines[0].split() == ["speed", "1.700", "≤", "1.5", "FALLS", "SHORT"]
    assert "not measured" in lines[1]
    assert "needs a human" in lines[1]


def test_figures_and_rows_are_read_back_from_json(tmp_path):
    out = tmp_path / "deep" / "figures.json"
    write(out, [Figure("speed", 1.0, high=1.5)], rows=[{"prompt": "a red car", "quality": 0.5}, {"prompt": "a cat"}])
    read = json.loads(out.read_text())
    assert read["rows"] == [{"prompt": "a red car", "quality": 0.5}, {"prompt": "a cat"}]
    assert read["figures"] == [{"name": "speed", "value": 1.0, "low": None, "high": 1.5, "note": "", "held": True}]
    assert [path.name for path in out.parent.iterdir()] == ["figures.json"]
