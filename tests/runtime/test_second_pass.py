"""Classifier-free guidance as a method: the same as the pipeline's own, on pipelines that do without."""

import pytest
import torch

import vsf
from support import tiny_pipelines as tiny
from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.runtime.second_pass import mixed, strength_on

CFG = vsf.method("cfg", scale=3.0)
PROMPTS, NEGATIVES = ["a red car", "a hat"], ["wheels", "a long green leaf"]


@pytest.fixture
def pipe():
    return tiny.sd3()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def test_it_equals_the_guidance_that_the_pipeline_has_itself(pipe):
    own = tiny.call(pipe, guidance_scale=3.0, negative_prompt="wheels")
    with vsf.guide(pipe, "wheels", method=CFG) as report:
        assert difference(tiny.call(pipe), own) <= 1e-5
    assert report.steps == 2
    assert difference(tiny.call(pipe), own) > 1e-3


def test_a_batch_of_several_pictures_per_prompt_equals_the_pipelines_own(pipe):
    settings = {"num_images_per_prompt": 2}
    own = tiny.call(pipe, PROMPTS, guidance_scale=3.0, negative_prompt=NEGATIVES, **settings)
    with vsf.guide(pipe, NEGATIVES, method=CFG):
        assert difference(tiny.call(pipe, PROMPTS, **settings), own) <= 1e-5


def test_one_negative_serves_all_prompts(pipe):
    own = tiny.call(pipe, PROMPTS, guidance_scale=3.0, negative_prompt=["wheels", "wheels"])
    with vsf.guide(pipe, "wheels", method=CFG):
        assert difference(tiny.call(pipe, PROMPTS), own) <= 1e-5


def test_an_empty_negative_leaves_its_row_as_it_is(pipe):
    plain = tiny.call(pipe, PROMPTS)
    with vsf.guide(pipe, ["wheels", ""], method=CFG):
        guided = tiny.call(pipe, PROMPTS)
    assert torch.equal(guided[1], plain[1])
    assert difference(guided[0], plain[0]) > 1e-3


def test_finding_the_second_prompt_draws_nothing_and_shows_nothing(pipe, capsys):
    state, generator = torch.random.get_rng_state(), torch.Generator().manual_seed(3)
    with vsf.guide(pipe, "wheels", method=CFG):
        first = pipe(prompt="a red car", generator=generator, **tiny.SETTINGS)[0]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, tiny.call(pipe, seed=3)) is False
    with vsf.guide(pipe, "wheels", method=CFG):
        assert torch.equal(first, tiny.call(pipe, seed=3))
    assert "%" not in capsys.readouterr().err


def test_a_mask_confines_it(pipe):
    with vsf.guide(pipe, "wheels", method=CFG, mask=(0, 0, 0.5, 1)):
        left = tiny.call(pipe, num_inference_steps=1)
    plain = tiny.call(pipe, num_inference_steps=1)
    assert torch.equal(left[..., 4:], plain[..., 4:])
    assert difference(left[..., :4], plain[..., :4]) > 1e-3


def test_a_schedule_saves_the_second_call(pipe):
    calls = []
    pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    with vsf.guide(pipe, "wheels", method=CFG, schedule=vsf.Schedule(end=0.5)) as report:
        tiny.call(pipe, num_inference_steps=4)
    assert len(calls) == 2 + 2 + 1 + 1
    assert (report.steps, report.skipped) == (2, 2)


def test_an_attached_pipeline_has_it_too(pipe):
    own = tiny.call(pipe, guidance_scale=3.0, negative_prompt="wheels")
    vsf.attach(pipe, method=CFG)
    assert difference(tiny.call(pipe, negative_prompt="wheels"), own) <= 1e-5


def test_the_pipelines_own_guidance_beside_it_is_refused(pipe):
    with vsf.guide(pipe, "wheels", method=CFG), pytest.raises(vsf.KnobError, match="switch that off"):
        tiny.call(pipe, guidance_scale=3.0)


@pytest.mark.parametrize("negatives", [{"wheels": 0.5}, {"wheels": 1.0, "hat": 1.0}], ids=str)
def test_weighted_negatives_are_refused(pipe, negatives):
    with vsf.guide(pipe, negatives, method=CFG), pytest.raises(vsf.KnobError, match="one of weight 1"):
        tiny.call(pipe)


def test_embeddings_without_their_text_are_refused(pipe):
    negative = vsf.Negative(vsf.encode(pipe, "wheels").embeddings)
    with vsf.guide(pipe, negative=negative, method=CFG), pytest.raises(vsf.KnobError, match="needs its text"):
        tiny.call(pipe)


def test_outputs_of_any_form_are_mixed():
    def mix(first, second):
        return first + 10 * second

    one, two = torch.ones(1), torch.full((1,), 2.0)
    assert mixed(mix, (one, "kept"), (two, "lost")) == (torch.tensor([21.0]), "kept")
    assert mixed(mix, ([one, two],), ([two, one],)) == ([torch.tensor([21.0]), torch.tensor([12.0])],)


def test_strength_lies_on_clips_and_on_tokens_as_on_pictures():
    region, grid, rows = Region((0, 0, 0.5, 1)), Grid(2, 2, frames=2), [0.5, 1.0]
    clip = strength_on(torch.zeros(2, 3, 2, 4, 4), rows, region, grid)
    assert clip.expand(2, 3, 2, 4, 4)[0, 0, 1, 0].tolist() == [0.5, 0.5, 0.0, 0.0]
    last = strength_on(torch.zeros(2, 2, 4, 6, 3), rows, region, grid, channels_last=True)
    assert last.expand(2, 2, 4, 6, 3)[1, 0, 3, :, 2].tolist() == [1, 1, 1, 0, 0, 0]
    tokens = strength_on(torch.zeros(2, 10, 3), rows, region, grid)
    assert tokens[1, :, 0].tolist() == [1, 0, 1, 0, 1, 0, 1, 0, 0, 0]
    later = strength_on(torch.zeros(2, 10, 3), rows, region, Grid(2, 2, before=3))
    assert later[1, :, 0].tolist() == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0]
    assert strength_on(torch.zeros(2, 10, 3), rows, None, grid).flatten().tolist() == rows
