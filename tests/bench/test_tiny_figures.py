"""The figures command, on a model with random weights, which must fall short."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

import vsf
from vsf.bench import tiny_figures
from vsf.bench.sampling import Row, Setting, sample, share
from vsf.judges.scenes import Reading
from vsf.tiny import model
from vsf.tiny.scenes import prompt_pairs


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random"
    model.save(model.pipeline(), path)
    return path


def row(setting="none", **changes):
    right = {"object": True, "part_gone": False, "colour": True, "background": True, "named": None, "quality": 1.0}
    return Row(setting, "test", "a red car on snow", "wheels", 0, **{**right, **changes}, saw="")


def test_a_random_model_falls_short_and_its_rows_are_written(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_figures, "GRID", tiny_figures.GRID[:1])
    monkeypatch.setattr(tiny_figures, "seconds", lambda pipe: 0.5)
    out = tmp_path / "figures.json"
    app = typer.Typer()
    app.command()(tiny_figures.main)
    result = CliRunner().invoke(app, ["--prompts", "2", "--model", str(random_model), "--out", str(out)])
    assert result.exit_code == 1, result.output
    assert "FALLS SHORT" in result.output
    assert "not measured" in result.output
    written = json.loads(out.read_text())
    settings = {row["setting"] for row in written["rows"]}
    assert settings == {"none", "none, 4 steps", *(setting.name for setting in tiny_figures.GRID)}
    assert len(written["rows"]) == 2 * len(tiny_figures.SEEDS) * len(settings)
    assert {row["split"] for row in written["rows"]} == {"test"}
    assert len(written["dev_grid"]) == 2
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert figures["judge agrees with a careful look"]["held"] is None
    assert figures["pictures that the judge could not read"]["value"] == 1
    assert figures["pictures that the judge could not read"]["held"] is False


def test_every_verdict_on_a_picture_that_cannot_be_read_is_none(random_model, monkeypatch):
    pipe = tiny_figures.read(random_model)
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr("vsf.bench.sampling.look", lambda images: [Reading(None, None)] * len(images))
    pairs, setting = prompt_pairs(1, seed=0, split="dev"), Setting("none", vsf.method("none"), steps=2)
    (unread,) = sample(pipe, setting, pairs, [0], lambda _: None)
    verdicts = (unread.object, unread.part_gone, unread.colour, unread.background, unread.named, unread.quality)
    assert verdicts == (None,) * 6
    assert share([unread], "object") is None
    assert share([unread, row(object=False)], "object") == 0


def test_one_unreadable_picture_falls_short_because_no_score_counts_it():
    figure = tiny_figures.unreadable_figure([row(), row(quality=None)])
    assert (figure.value, figure.held) == (0.5, False)
    assert tiny_figures.unreadable_figure([row()]).held is True


def test_every_setting_starts_from_the_same_noise_and_rows_do_not_depend_on_the_batch(random_model, monkeypatch):
    pipe = tiny_figures.read(random_model)
    pipe.set_progress_bar_config(disable=True)
    pairs, setting = prompt_pairs(3, seed=0, split="dev"), Setting("none", vsf.method("none"), steps=2)
    seen = []
    monkeypatch.setattr(
        "vsf.bench.sampling.look", lambda images: seen.append(images) or [Reading(None, None)] * len(images)
    )
    sample(pipe, setting, pairs, [0], lambda _: None)
    sample(pipe, setting, pairs[:1], [0], lambda _: None)
    alone, together = seen[1][0], seen[0][0]
    assert max(abs(a - b) for a, b in zip(alone.tobytes(), together.tobytes(), strict=True)) <= 1
    assert seen[0][0].tobytes() != seen[0][1].tobytes()


def test_a_share_leaves_out_rows_without_the_column():
    rows = [row(named=True), row(named=False), row(named=None), row(named=True)]
    assert share(rows, "named") == pytest.approx(2 / 3, abs=1e-4)


def test_the_guided_figure_is_the_best_setting_that_keeps_object_and_quality():
    rows = {
        "none": [row()] * 10,
        "vsf gentle": [row(part_gone=index < 5) for index in range(10)],
        "vsf harsh": [row(part_gone=True, object=index < 5) for index in range(10)],
        "vsf ugly": [row(part_gone=True, quality=0.8)] * 10,
    }
    figure = tiny_figures.guided_figure(rows, 0.87, 0.6)
    assert figure.value == 0.5
    assert figure.held is False
    assert figure.note.startswith("vsf gentle: positive 1.000")


def test_without_an_admissible_setting_the_figure_is_that_of_no_guidance():
    rows = {"none": [row(part_gone=True), row()], "vsf": [row(part_gone=True, object=False)] * 2}
    figure = tiny_figures.guided_figure(rows, 0.87, 0.6)
    assert figure.value == 0.5
    assert "no setting" in figure.note


def test_the_fraction_of_named_parts_counts_only_prompts_that_name_one():
    rows = {name: [row(named=True), row(named=None)] for name in ("none", "none, 4 steps")}
    figures = {figure.name: figure for figure in tiny_figures.unguided_figures(rows)}
    assert figures["no guidance: parts named in the prompt are drawn"].value == 1
    assert figures["no guidance: essential part not named is absent"].value == 0
