"""The figures command, on a model with random weights, which must fall short."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import agreement
import settings_search
import tiny_figures
from command import app_of
from sampling import Drawing, Row
from vsf.tiny import model


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random"
    model.save(model.pipeline(), path)
    return path


@pytest.fixture
def small(monkeypatch, random_model, tmp_path):
    """The command with hardly anything to do, and its results."""
    monkeypatch.setattr(tiny_figures, "FORMS", tiny_figures.FORMS[:1])
    monkeypatch.setattr(tiny_figures, "BASE", (replace(tiny_figures.BASE[-1], steps=2),))
    monkeypatch.setattr(tiny_figures, "RENDERS_PER_PROMPT", 1)
    monkeypatch.setattr(tiny_figures, "seconds", lambda pipe: 0.5)
    monkeypatch.setattr(agreement, "RESULTS", tmp_path / "nobody.json")
    monkeypatch.setattr(settings_search, "SCALES", (1.0,))
    monkeypatch.setattr(settings_search, "AROUND", (1.0,))
    out = tmp_path / "figures.json"
    models = ["--model", str(random_model), "--base", str(random_model)]
    return ["--prompts", "1", "--workers", "1", "--out", str(out), *models], out


def run(arguments):
    return CliRunner().invoke(app_of(tiny_figures.main), arguments)


def row(setting="none", **changes):
    right = {"object": True, "part_gone": False, "colour": True, "background": True, "named": None, "quality": 1.0}
    return Row(setting, "test", "a red car on snow", "wheels", 0, **{**right, **changes}, saw="")


def test_a_random_model_falls_short_and_its_rows_are_written(small):
    arguments, out = small
    result = run(arguments)
    assert result.exit_code == 1, result.output
    assert "FALLS SHORT" in result.output
    assert "not measured" in result.output
    written = json.loads(out.read_text())
    rows = [row for row in written["rows"] if not row["setting"].startswith("tiny-base")]
    settings = {row["setting"] for row in rows}
    assert {"none", "none, 4 steps"} < settings
    assert len(rows) == tiny_figures.SEEDS * len(settings)
    assert {row["split"] for row in written["rows"]} == {"test"}
    assert [row["setting"] for row in written["rows"] if row not in rows] == [tiny_figures.BASE[-1].name]
    assert written["dev_trials"][0]["setting"] == "none"
    assert written["about"][0]["prompts"] == 1
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert figures["judge agrees with a careful look"]["held"] is None
    assert figures["pictures that the judge could not read"]["value"] == 1
    assert figures["pictures that the judge could not read"]["held"] is False
    assert figures["no guidance, 8 steps: object right"]["held"] is False
    assert figures["no guidance, 8 steps: object right"]["value"] is None
    assert [path.name for path in out.parent.glob("figures*")] == ["figures.json"]


def test_a_stopped_run_keeps_what_is_finished_and_says_where(small, monkeypatch):
    arguments, out = small
    drawn = []

    def stopping(self):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(self)
        return real(self)

    real = Drawing.run
    monkeypatch.setattr(Drawing, "run", stopping)
    result = run(arguments)
    assert result.exit_code == 130
    assert "figures.unfinished.jsonl" in result.output
    assert not out.exists()
    monkeypatch.setattr(Drawing, "run", lambda self: drawn.append(self) or real(self))
    assert run(arguments).exit_code == 1
    assert len(drawn) == len(set(drawn))


def test_the_settings_tested_are_those_that_the_search_chose(small, monkeypatch):
    arguments, out = small
    chosen = [settings_search.Form().at(3.0), settings_search.Form().at(1.0)]
    monkeypatch.setattr(settings_search.Search, "run", lambda self, bounds: chosen)
    monkeypatch.setattr(settings_search.Search, "table", lambda self: [])
    run(arguments)
    settings = {row["setting"] for row in json.loads(out.read_text())["rows"]}
    assert {setting.name for setting in chosen} < settings


UNREADABLE = {"object": None, "part_gone": None, "colour": None, "background": None, "quality": None}


def test_one_unreadable_picture_falls_short_because_no_score_counts_it():
    figure = tiny_figures.unreadable_figure({"none": [row()], "vsf": [row(quality=None)]})
    assert (figure.value, figure.held, figure.note) == (0.5, False, "1 of 2")
    assert tiny_figures.unreadable_figure({"none": [row()]}).held is True


@pytest.mark.parametrize(("unreadable", "held"), [(0, True), (3, True), (4, False)])
def test_a_bound_has_to_hold_whatever_unreadable_pictures_had_shown(unreadable, held):
    rows = [row()] * (100 - unreadable) + [row(**UNREADABLE)] * unreadable
    figure = tiny_figures.share_figure("object", rows, "object", low=0.97)
    assert (figure.value, figure.held) == (1.0, held)
    assert figure.spread == (round(1 - unreadable / 100, 4), 1.0)


def test_both_ends_of_a_range_have_to_hold_whatever_unreadable_pictures_had_shown():
    rows = [row(part_gone=True)] * 26 + [row()] * 72 + [row(**UNREADABLE)] * 2
    assert tiny_figures.share_figure("gone", rows, "part_gone", low=0.13, high=0.27).held is False
    assert tiny_figures.share_figure("gone", rows[2:-1], "part_gone", low=0.13, high=0.27).held is True


def test_an_unreadable_picture_of_a_prompt_that_names_a_part_may_lack_it():
    telling = {"named": True, "object": True}
    rows = [row(**telling), row(**UNREADABLE)]
    rows = [replace(one, prompt="a red car with lights on snow") for one in rows]
    figures = tiny_figures.unguided_figures({"none": rows, "none, 4 steps": rows})
    (named,) = (figure for figure in figures if "named in the prompt" in figure.name)
    assert (named.value, named.spread) == (1.0, (0.5, 1.0))


def test_unreadable_pictures_of_the_chosen_setting_count_as_lost():
    readable = [row(part_gone=True)] * 19
    kept = tiny_figures.guided_figure({"none": [row()], "vsf": [*readable, row(**UNREADABLE)]}, "vsf", 0.95, 0.9)
    assert (kept.value, kept.spread, kept.held) == (1.0, (0.95, 1.0), True)
    lost = tiny_figures.guided_figure({"none": [row()], "vsf": [*readable, row(**UNREADABLE)]}, "vsf", 0.96, 0.9)
    assert "does not keep" in lost.note


def test_the_guided_figure_is_the_negative_score_of_the_chosen_setting():
    rows = {"none": [row()] * 10, "vsf": [row(part_gone=index < 5) for index in range(10)]}
    figure = tiny_figures.guided_figure(rows, "vsf", 0.87, 0.6)
    assert (figure.value, figure.held) == (0.5, False)
    assert figure.note.startswith("vsf: positive 1.000")


@pytest.mark.parametrize("worse", [{"object": False}, {"quality": 0.9}])
def test_a_chosen_setting_that_gives_too_much_away_counts_as_no_guidance(worse):
    rows = {"none": [row(part_gone=True), row()], "vsf": [row(part_gone=True, **worse)] * 2}
    figure = tiny_figures.guided_figure(rows, "vsf", 0.87, 0.6)
    assert figure.value == 0.5
    assert "does not keep" in figure.note


def test_without_a_readable_picture_there_is_no_guided_figure():
    rows = {"none": [row()], "vsf": [row(object=None, part_gone=None, quality=None)]}
    assert tiny_figures.guided_figure(rows, "vsf", 0.87, 0.6).value is None


def test_the_fraction_of_named_parts_counts_only_prompts_that_name_one():
    telling = replace(row(named=True), prompt="a red car with lights on snow")
    rows = {name: [telling, row(named=None)] for name in ("none", "none, 4 steps")}
    figures = {figure.name: figure for figure in tiny_figures.unguided_figures(rows)}
    assert figures["no guidance: parts named in the prompt are drawn"].value == 1
    assert figures["no guidance: essential part not named is absent"].value == 0


def test_the_teachers_figures_have_no_bounds():
    for figure in tiny_figures.base_figures({"tiny-base, CFG 4": [row()] * 2}, "tiny-base, CFG 4"):
        assert figure.held is None
        assert figure.value is not None
