"""The picture of how the judge bears damage."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

import damage_plot
from command import app_of
from corruptions import CORRUPTIONS
from vsf.errors import RequestError


@pytest.fixture
def results(tmp_path):
    rows = [
        {"damage": name, "level": level, "parts": 1.0 if level < 1 else None, "of": 2, "quality": [1 - level / 4, None]}
        for name, damage in CORRUPTIONS.items()
        for level in (0.0, *damage.levels)
    ]
    file = tmp_path / "figures.json"
    file.write_text(json.dumps({"judge_damages": rows}))
    return file


def test_the_plot_is_a_picture_with_something_on_it(results, tmp_path):
    out = tmp_path / "images" / "plot.png"
    result = CliRunner().invoke(app_of(damage_plot.main), ["--results", str(results), "--out", str(out)])
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_every_damage_has_its_unit_and_its_levels_in_order(results):
    damages = damage_plot.rows_of(results)
    assert list(damages) == list(CORRUPTIONS) == list(damage_plot.UNITS)
    for name, levels in damages.items():
        assert [row["level"] for row in levels] == [0.0, *CORRUPTIONS[name].levels]


def test_what_cannot_be_read_is_a_bar_and_no_point_of_quality(results):
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    levels = [
        {"level": 0.0, "parts": 1.0, "quality": [0.9, 0.7]},
        {"level": 1.0, "parts": None, "quality": [None, None]},
    ]
    damage_plot.draw(axis, levels)
    quality, parts = (line.get_ydata() for line in axis.get_lines())
    assert quality[0] == pytest.approx(0.8)
    assert quality[1] != quality[1]  # not a number: no point
    assert parts[1] != parts[1]
    assert [bar.get_height() for bar in axis.patches] == [0.0, 1.0]


def test_results_without_figures_are_refused(tmp_path):
    with pytest.raises(RequestError, match="comes first"):
        damage_plot.rows_of(tmp_path / "none.json")
