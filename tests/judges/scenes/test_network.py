"""How the reader is taught: what its lessons hold, what they cost, and that a stopped run goes on as it would have."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from vsf.judges.scenes.network import COUNTS, Reader, Scores
from vsf.judges.scenes.predictions import count_of
from vsf.judges.scenes.training import corruptions as mishaps
from vsf.judges.scenes.training import data as lessons
from vsf.judges.scenes.training import train as train_reader
from vsf.tiny.scenes import OBJECTS, PARTS


@pytest.fixture(scope="module")
def course():
    return [lessons.lesson(0, index) for index in range(300)]


def test_the_reader_is_small():
    assert sum(parameter.numel() for parameter in Reader().parameters()) <= 600_000


def test_a_lesson_is_the_same_every_time():
    first, second = lessons.lesson(4, 7), lessons.lesson(4, 7)
    assert first.scene == second.scene
    assert np.array_equal(first.images, second.images)
    assert lessons.lesson(5, 7).scene != first.scene


def test_essential_parts_are_missing_as_often_as_not(course):
    things = [thing for lesson in course for thing in lesson.scene.things if thing.body]
    present = [part in thing.parts for thing in things for part in OBJECTS[thing.object].essential]
    assert 0.42 < np.mean(present) < 0.58


def test_lessons_show_one_thing_two_loose_parts_and_nothing(course):
    seen = [count_of(lesson.scene) for lesson in course]
    assert set(seen) == set(COUNTS)
    assert 0.1 < seen.count("loose") / len(seen) < 0.2
    assert 0.14 < seen.count("two") / len(seen) < 0.26


def test_a_blend_is_labelled_by_opacity_and_counts_only_when_clear(course):
    twins = [lesson for lesson in course if (lesson.parts[0] != lesson.parts[1]).any()]
    assert len(twins) > 100
    images, truth = lessons.batch(twins, random.Random(0))
    assert images.shape == (len(twins), 3, 64, 64)
    toggled = torch.from_numpy(np.stack([lesson.parts[0] != lesson.parts[1] for lesson in twins]))
    opacity = truth.parts[toggled]
    unclear = (opacity > 0.35) & (opacity < 0.65)
    assert unclear.any()
    assert torch.equal(truth.part_counts[toggled], ~unclear)


def test_a_reader_that_is_right_pays_almost_nothing_and_one_that_is_wrong_pays(course):
    _, truth = lessons.batch(course[:60], random.Random(0))
    right = Scores(
        counts=hot(truth.counts, len(COUNTS)),
        objects=hot(truth.objects, len(OBJECTS)),
        parts=20 * (truth.parts > 0.5).float() - 10,
        colours=hot(truth.colours, 8),
        places=truth.places,
        backgrounds=hot(truth.backgrounds, 6),
        styles=hot(truth.styles, 3),
        horizons=truth.horizons,
    )
    assert train_reader.loss(right, truth) < 0.01
    for name in vars(right):
        wrong = Scores(**{**vars(right), name: -vars(right)[name]})
        assert train_reader.loss(wrong, truth) > 1, name


def hot(classes, count):
    return 10 * torch.nn.functional.one_hot(classes, count).float()


def test_a_course_taken_up_later_shows_what_it_would_have_shown(monkeypatch):
    monkeypatch.setattr(train_reader, "HELD", 64)
    through, resumed = train_reader.Course(0), train_reader.Course(0)
    for step in range(3):
        last, truth = through.visit(step)
    again, truth_again = resumed.visit(2)
    assert torch.equal(last, again)
    assert torch.equal(truth.parts, truth_again.parts)


def test_mishaps_keep_shape_and_range_and_spare_some_pictures(course):
    images, _ = lessons.batch(course[:80], random.Random(0))
    torch.manual_seed(0)
    spoiled = mishaps.spoil(images, random.Random(0))
    assert spoiled.shape == images.shape
    assert spoiled.min() >= 0
    assert spoiled.max() <= 1
    changed = (spoiled != images).flatten(1).any(1).float().mean()
    assert 0.6 < changed < 0.95


def test_training_writes_half_precision_weights_that_a_reader_takes(monkeypatch, tmp_path):
    monkeypatch.setattr(train_reader, "HELD", 96)
    monkeypatch.setattr(train_reader, "SETTLING", 1)
    out = tmp_path / "run" / "reader.safetensors"
    threads = torch.get_num_threads()
    try:
        typer_app = train_reader.typer.Typer()
        typer_app.command()(train_reader.main)
        result = CliRunner().invoke(typer_app, ["--out", str(out), "--steps", "2"])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    weights = load_file(out)
    assert {value.dtype for value in weights.values() if value.ndim} == {torch.float16}
    assert out.stat().st_size <= 1.5e6
    Reader().load_state_dict(weights)
    assert len(PARTS) == 34
