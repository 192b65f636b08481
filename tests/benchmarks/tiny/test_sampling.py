"""Drawing and judging batches of prompts."""

import json

import pytest
import torch

import vsf
from crew import Crew
from sampling import Row, Setting, draw, mixed_shots, names_part, pipeline, sample, share
from settings_search import Form
from vsf.judges.scenes.judge import Reading
from vsf.tiny import model
from vsf.tiny.scenes import is_held_out

NONE_IN_2 = Setting("none", vsf.method("none"), steps=2)
CFG = Setting("cfg", vsf.method("none"), steps=2, guidance_scale=4.0)
CFG_FROM_NEGATIVE = Setting("cfg", vsf.method("none"), steps=2, guidance_scale=4.0, host_negative=True)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    torch.manual_seed(0)
    pipe = model.pipeline()
    for parameter in pipe.transformer.parameters():
        if not parameter.any():  # gates start at zero and would hide the text
            torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("model") / "random"
    model.save(pipe, path)
    return path


def row(**changes):
    right = {"object": True, "part_gone": False, "colour": True, "background": True, "named": None, "quality": 1.0}
    return Row("none", "test", "a red car on snow", "wheels", 0, **{**right, **changes}, saw="")


def furthest(first, second):
    return max(abs(a - b) for a, b in zip(first.tobytes(), second.tobytes(), strict=True))


@pytest.mark.parametrize("setting", [NONE_IN_2, Form().at(4.0), CFG_FROM_NEGATIVE])
def test_a_picture_does_not_depend_on_its_batch(random_model, setting):
    shots, pipe = mixed_shots(3, [0], "dev"), pipeline(random_model)
    together = draw(pipe, setting, shots)
    for shot, image in zip(shots, together, strict=True):
        assert furthest(draw(pipe, setting, [shot])[0], image) <= 1
    assert furthest(together[0], together[1]) > 1


def test_under_cfg_the_negative_prompt_moves_the_picture_only_when_the_host_gets_it(random_model):
    (shot,), pipe = mixed_shots(1, [0], "dev"), pipeline(random_model)
    plain, guided = (draw(pipe, CFG, [shot])[0] for _ in range(2))
    assert plain.tobytes() == guided.tobytes()
    assert draw(pipe, CFG_FROM_NEGATIVE, [shot])[0].tobytes() != plain.tobytes()


def test_every_verdict_on_a_picture_that_cannot_be_read_is_none(random_model, monkeypatch, tmp_path):
    monkeypatch.setattr("sampling.look", lambda images: [Reading(None, None)] * len(images))
    with Crew(tmp_path / "done.jsonl", "", 1) as crew:
        rows = sample(crew, random_model, [NONE_IN_2], mixed_shots(1, [0], "dev"), lambda done: None)
    (unread,) = rows[NONE_IN_2]
    verdicts = (unread.object, unread.part_gone, unread.colour, unread.background, unread.named, unread.quality)
    assert verdicts == (None,) * 6
    assert share([unread], "object") is None
    assert share([unread, row(object=False)], "object") == 0


def test_rows_go_to_the_setting_that_drew_them_and_survive_being_kept(random_model, tmp_path):
    shots = mixed_shots(2, [0], "dev")
    settings = [NONE_IN_2, Setting("vsf", vsf.ValueSignFlip(), steps=2)]
    results = []
    for _ in range(2):
        with Crew(tmp_path / "done.jsonl", "", 1) as crew:
            results.append(sample(crew, random_model, settings, shots, lambda done: None))
    assert results[0] == results[1]
    for setting in settings:
        assert [row.setting for row in results[0][setting]] == [setting.name] * 2
        assert [row.prompt for row in results[0][setting]] == [shot.pair.prompt for shot in shots]
    assert len((tmp_path / "done.jsonl").read_text().splitlines()) == len(settings)
    assert json.loads((tmp_path / "done.jsonl").read_text().splitlines()[0])["rows"]


def test_one_prompt_in_three_is_plain_and_the_others_name_a_part():
    for split in ("dev", "test"):
        shots = mixed_shots(90, [0], split)
        assert sum(not names_part(shot.pair) for shot in shots) == 30
        assert all(shot.pair.split == split for shot in shots)


def test_400_test_prompts_differ_and_were_never_trained_on():
    shots = mixed_shots(400, [0, 1], "test")
    assert len(shots) == 800
    assert len({shot.noise for shot in shots}) == 800
    assert len({shot.pair for shot in shots}) == 400
    for shot in shots:
        pair = shot.pair
        assert is_held_out(pair.object, pair.negative, pair.colour, pair.background)
        assert pair.negative not in pair.prompt.split()


def test_no_prompt_is_used_both_for_choosing_and_for_testing():
    dev, test = ({shot.pair.prompt for shot in mixed_shots(400, [0], split)} for split in ("dev", "test"))
    assert dev.isdisjoint(test)


def test_a_share_leaves_out_rows_without_the_column():
    rows = [row(named=True), row(named=False), row(named=None), row(named=True)]
    assert share(rows, "named") == pytest.approx(2 / 3, abs=1e-4)
