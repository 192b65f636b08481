"""scale="auto": chosen step by step from what the image saw, reported, and the same at every run."""

import pytest
import torch

import vsf
from support import tiny_pipelines as tiny
from vsf.guidance import auto_scale

AUTO = vsf.ValueSignFlip(scale="auto")
PROMPTS, NEGATIVES = ["a red car", "a hat", "two old trees"], ["wheels", "", "a long green leaf"]


@pytest.fixture
def pipe():
    return tiny.sd3()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def test_the_first_step_has_the_default_scale_and_the_next_follow_the_mass(pipe):
    with vsf.guide(pipe, "wheels", method=AUTO) as report:
        tiny.call(pipe, num_inference_steps=3)
    rule, mass = auto_scale(AUTO), report.mass().mean(1).sum(1)
    expected = [rule.first(mass[:1])]
    for step in range(2):
        expected.append(rule.next(expected[-1], mass[step : step + 1]))
    torch.testing.assert_close(torch.cat(report.scales), torch.cat(expected).flatten())
    assert float(report.scales[0]) == 1.0
    assert float(report.scales[1]) != 1.0
    assert "scale 1.00, " in str(report)


def test_a_step_is_made_with_the_scale_that_is_reported(pipe):
    with vsf.guide(pipe, "wheels", method=AUTO):
        one_step = tiny.call(pipe, num_inference_steps=1)
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip()):
        assert difference(one_step, tiny.call(pipe, num_inference_steps=1)) <= 1e-6
    with vsf.guide(pipe, "a long green leaf", method=AUTO):
        several = tiny.call(pipe, num_inference_steps=4)
    with vsf.guide(pipe, "a long green leaf", method=vsf.ValueSignFlip()):
        assert difference(several, tiny.call(pipe, num_inference_steps=4)) > 1e-4


def test_two_runs_are_the_same(pipe):
    with vsf.guide(pipe, "wheels", method=AUTO):
        assert torch.equal(tiny.call(pipe), tiny.call(pipe))


def test_each_row_of_a_batch_has_a_scale_of_its_own(pipe):
    latents, alone = torch.randn(3, 4, 8, 8), []
    for index, (prompt, negative) in enumerate(zip(PROMPTS, NEGATIVES, strict=True)):
        with vsf.guide(pipe, negative, method=AUTO):
            alone.append(tiny.call(pipe, prompt, latents=latents[index : index + 1]))
    with vsf.guide(pipe, NEGATIVES, method=AUTO) as report:
        together = tiny.call(pipe, PROMPTS, latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5
    assert report.scales[-1].tolist()[1] == 1.0


@pytest.mark.parametrize("name", ["vsf-centred", "nag", "nasa", "ong", "negpip"])
def test_every_method_with_a_scale_can_follow(pipe, name):
    with vsf.guide(pipe, "wheels", method=vsf.method(name, scale="auto")) as report:
        tiny.call(pipe)
    assert len(report.scales) == 2


def test_under_cfg_the_conditional_rows_follow(pipe):
    with vsf.guide(pipe, "wheels", method=AUTO) as report:
        tiny.call(pipe, guidance_scale=3.0)
    unconditional, conditional = report.scales[-1].tolist()
    assert unconditional == 1.0 != conditional


def test_a_method_that_leaves_attention_alone_refuses(pipe):
    with (
        pytest.raises(vsf.KnobError, match="leaves alone"),
        vsf.guide(pipe, "wheels", method=vsf.method("cfg", scale="auto")),
    ):
        tiny.call(pipe)


def test_where_nothing_is_observed_it_says_so(pipe):
    pipe.transformer.compile(backend="eager")
    with vsf.guide(pipe, "wheels", method=AUTO), pytest.raises(vsf.KnobError, match="could not be observed"):
        tiny.call(pipe, num_inference_steps=1)
    torch._dynamo.reset()


def test_no_other_word_is_a_scale():
    with pytest.raises(vsf.KnobError, match="or \"auto\", got 'strong'"):
        vsf.ValueSignFlip(scale="strong")
    with pytest.raises(vsf.KnobError):
        vsf.ValueSignFlip(offset="auto")
