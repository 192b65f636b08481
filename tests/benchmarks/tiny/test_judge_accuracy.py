"""The judge measured on renders."""

import pytest

import judge_accuracy
from corruptions import CORRUPTIONS
from crew import Crew
from judge_accuracy import Examination, clean_figures, damage_figures, fall
from vsf.judges.scenes.judge import Reading
from vsf.tiny.scenes import PARTS


@pytest.fixture
def crew(tmp_path):
    with Crew(tmp_path / "done.jsonl", "", 1) as crew:
        yield crew


def test_clean_renders_are_read_rightly_and_every_answer_is_counted(crew):
    ticks = []
    figures, rows = clean_figures(crew, 40, 0, ticks.append)
    assert sum(ticks) == 40
    assert all(figure.value >= 0.9 for figure in figures)
    assert {row["answer"]: row["of"] for row in rows}["background"] == 40


def test_a_judge_that_reads_nothing_is_wrong_on_clean_renders_and_has_no_quality_on_damaged_ones(crew, monkeypatch):
    monkeypatch.setattr(judge_accuracy, "look", lambda images: [Reading(None, None)] * len(images))
    clean, _ = clean_figures(crew, 4, 0, lambda done: None)
    assert {figure.value for figure in clean} == {0}
    hurt, rows = damage_figures(crew, 2, 0, lambda done: None)
    assert {figure.value for figure in hurt} == {None}
    assert {figure.held for figure in hurt} == {None}
    assert all(row["parts"] is None and row["quality"] == [None, None] for row in rows)
    assert len(rows) == judge_accuracy.LEVELS


def test_the_fall_of_quality_is_that_of_the_images_that_can_be_read_before_and_after():
    before = [0.9] * 10 + [0.1] * 10
    after = [0.8] * 10 + [None] * 10
    assert fall(before, after) == pytest.approx(0.1)
    assert fall(before[:9], after[:9]) is None


def test_a_batch_of_scenes_is_the_same_every_time_and_no_other_batch_is():
    (first,), (again,), (other,) = (Examination(0, batch, 1).run() for batch in (0, 0, 1))
    assert first == again
    assert first != other


def test_damage_lowers_the_quality_of_the_very_same_scene():
    clean, hurt = (Examination(0, 0, 2, "noise", level).run() for level in (0.0, 0.1))
    assert all(one["quality"] > other["quality"] for one, other in zip(clean, hurt, strict=True))
    assert [name for name, _ in clean[0]["answers"]] == [name for name, _ in hurt[0]["answers"]]


@pytest.fixture(scope="module")
def shared_crew(tmp_path_factory):
    with Crew(tmp_path_factory.mktemp("crew") / "kept.jsonl", "test", workers=1) as crew:
        yield crew


@pytest.fixture(scope="module")
def clean(shared_crew):
    figures, rows = clean_figures(shared_crew, 160, seed=11, tick=lambda _: None)
    return {figure.name.split(": ")[1]: figure.value for figure in figures}, {row["answer"]: row for row in rows}


@pytest.mark.slow
def test_objects_colours_and_backgrounds_of_held_out_renders_are_read_right(clean):
    figures, _ = clean
    assert figures["object"] >= 0.995
    assert figures["colour"] >= 0.99
    assert figures["background"] >= 0.99


@pytest.mark.slow
def test_parts_of_held_out_renders_are_read_right(clean):
    _, rows = clean
    parts = {name: row for name, row in rows.items() if name in PARTS}
    assert parts.keys() == set(PARTS)
    asked = sum(row["of"] for row in parts.values())
    assert sum(row["right"] * row["of"] for row in parts.values()) / asked >= 0.985
    wrong = {name: (1 - row["right"]) * row["of"] for name, row in parts.items()}
    assert max(wrong.values()) <= 2.01, wrong  # of some 10 each


@pytest.fixture(scope="module")
def damaged(shared_crew):
    return damage_figures(shared_crew, 12, seed=3, tick=lambda _: None)


@pytest.mark.slow
def test_clean_renders_are_of_full_quality(damaged):
    _, rows = damaged
    assert min(quality for row in rows if row["level"] == 0 for quality in row["quality"]) > 0.9


@pytest.mark.slow
def test_quality_falls_with_every_level_of_damage(damaged):
    figures, rows = damaged
    assert {row["damage"] for row in rows} == set(CORRUPTIONS)
    falls = [figure.value for figure in figures if "fall" in figure.name]
    assert len(falls) == len(CORRUPTIONS)
    assert min(falls) > 0


@pytest.mark.slow
def test_mild_damage_leaves_parts_readable(damaged):
    figures, _ = damaged
    mild = [figure.value for figure in figures if "mild" in figure.name]
    assert len(mild) == len(CORRUPTIONS)
    assert min(mild) >= 0.95
