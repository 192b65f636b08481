"""How the reader is trained: what its samples hold, what they cost, and that a stopped run goes on as it would have."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from vsf.judges.scenes.network import COUNTS, Reader, Scores
from vsf.judges.scenes.predictions import count_of
from vsf.judges.scenes.training import corruptions, data
from vsf.judges.scenes.training import train as train_reader
from vsf.tiny.scenes import OBJECTS, PARTS


@pytest.fixture(scope="module")
def samples():
    return [data.sample(0, index) for index in range(300)]


def test_the_reader_is_small():
    assert sum(parameter.numel() for parameter in Reader().parameters()) <= 600_000


def test_a_sample_is_the_same_every_time():
    first, second = data.sample(4, 7), data.sample(4, 7)
    assert first.scene == second.scene
    assert np.array_equal(first.images, second.images)
    assert data.sample(5, 7).scene != first.scene


def test_essential_parts_are_missing_as_often_as_not(samples):
    things = [thing for sample in samples for thing in sample.scene.things if thing.body]
    present = [part in thing.parts for thing in things for part in OBJECTS[thing.object].essential]
    assert 0.42 < np.mean(present) < 0.58


def test_samples_show_one_thing_two_loose_parts_and_nothing(samples):
    seen = [count_of(sample.scene) for sample in samples]
    assert set(seen) == set(COUNTS)
    assert 0.1 < seen.count("loose") / len(seen) < 0.2
    assert 0.14 < seen.count("two") / len(seen) < 0.26


def test_a_blend_is_labelled_by_opacity_and_counts_only_when_clear(samples):
    twins = [sample for sample in samples if (sample.parts[0] != sample.parts[1]).any()]
    assert len(twins) > 100
    images, targets = data.batch(twins, random.Random(0))
    assert images.shape == (len(twins), 3, 64, 64)
    toggled = torch.from_numpy(np.stack([sample.parts[0] != sample.parts[1] for sample in twins]))
    opacity = targets.parts[toggled]
    unclear = (opacity > 0.35) & (opacity < 0.65)
    assert unclear.any()
    assert torch.equal(targets.part_counts[toggled], ~unclear)


def test_a_reader_that_is_right_pays_almost_nothing_and_one_that_is_wrong_pays(samples):
    _, targets = data.batch(samples[:60], random.Random(0))
    right = Scores(
        counts=hot(targets.counts, len(COUNTS)),
        objects=hot(targets.objects, len(OBJECTS)),
        parts=20 * (targets.parts > 0.5).float() - 10,
        colours=hot(targets.colours, 8),
        places=targets.places,
        backgrounds=hot(targets.backgrounds, 6),
        styles=hot(targets.styles, 3),
        horizons=targets.horizons,
    )
    assert train_reader.loss(right, targets) < 0.01
    for name in vars(right):
        wrong = Scores(**{**vars(right), name: -vars(right)[name]})
        assert train_reader.loss(wrong, targets) > 1, name


def hot(classes, count):
    return 10 * torch.nn.functional.one_hot(classes, count).float()


def test_a_buffer_taken_up_later_shows_what_it_would_have_shown(monkeypatch):
    monkeypatch.setattr(train_reader, "HELD", 64)
    through, resumed = train_reader.replay_buffer(0), train_reader.replay_buffer(0)
    for step in range(3):
        last, targets = through.draw_batch(step)
    again, targets_again = resumed.draw_batch(2)
    assert torch.equal(last, again)
    assert torch.equal(targets.parts, targets_again.parts)


def test_corruptions_keep_shape_and_range_and_spare_some_pictures(samples):
    images, _ = data.batch(samples[:80], random.Random(0))
    torch.manual_seed(0)
    corrupted = corruptions.corrupt(images, random.Random(0))
    assert corrupted.shape == images.shape
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    changed = (corrupted != images).flatten(1).any(1).float().mean()
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
