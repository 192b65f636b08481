"""Several negatives, schedules and masks on a live pipeline."""

import math
from itertools import combinations

import diffusers
import pytest
import torch
from PIL import Image

import vsf
from support import tiny_pipelines as tiny
from support.every_method import EVERY_METHOD, STRONG
from vsf.guidance import AttentionPlan
from vsf.text.embeddings import Share


@pytest.fixture
def pipe():
    return tiny.sd3()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def draw(pipe, negatives=None, prompt="a red car", *, method=STRONG, latents=None, settings=None, **given):
    settings = {"latents": latents, **(settings or {})}
    with vsf.guide(pipe, negatives, method=method, **given):
        return tiny.call(pipe, prompt, **settings)


# Several negatives ------------------------------------------------------------------------------------------------


@EVERY_METHOD
def test_two_equal_halves_of_a_negative_equal_the_whole(pipe, method):
    whole = vsf.encode(pipe, "wheels")
    (tokens,) = whole.embeddings
    share = vsf.Share(len(tokens), 0.5)
    halves = vsf.Negative((torch.cat([tokens, tokens]),), shares=((share, share),))
    assert difference(draw(pipe, negative=halves, method=method), draw(pipe, "wheels", method=method)) <= 1e-5


@EVERY_METHOD
def test_the_order_of_negatives_does_not_matter_and_weight_zero_is_absent(pipe, method):
    expected = draw(pipe, {"wheels": 0.7, "a green leaf": 1.5}, method=method)
    assert difference(draw(pipe, {"a green leaf": 1.5, "wheels": 0.7}, method=method), expected) <= 1e-5
    with_none = {"wheels": 0.7, "hat": 0.0, "a green leaf": 1.5}
    assert torch.equal(draw(pipe, with_none, method=method), expected)
    for other in ({"wheels": 0.7}, {"a green leaf": 1.5}, {"wheels": 1.0, "a green leaf": 1.0}):
        assert difference(draw(pipe, other, method=method), expected) > 1e-4


def test_a_weight_of_one_is_the_plain_negative(pipe):
    assert torch.equal(draw(pipe, {"wheels": 1}), draw(pipe, "wheels"))
    assert torch.equal(draw(pipe, vsf.Prompt.parse("a red car (wheels:-1)").negatives), draw(pipe, "wheels"))


@pytest.mark.parametrize("nothing", [{}, {"wheels": 0.0}, [{}], {" ": 3.0}])
def test_no_negative_left_changes_nothing(pipe, nothing):
    assert torch.equal(draw(pipe, nothing), tiny.call(pipe))


@EVERY_METHOD
def test_a_batch_with_different_numbers_of_negatives_equals_one_by_one(pipe, method):
    negatives = [{"wheels": 0.5, "hat": 2.0}, "", {"a long green leaf": 1.0}, {"a": 1.0, "bc": 0.2, "wheels": 3.0}]
    prompts, latents = ["a red car", "a hat", "two old trees", "a"], torch.randn(4, 4, 8, 8)
    alone = [
        draw(pipe, negative, prompt, method=method, latents=latents[at : at + 1])
        for at, (negative, prompt) in enumerate(zip(negatives, prompts, strict=True))
    ]
    together = draw(pipe, negatives, prompts, method=method, latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5
    assert torch.equal(together[1], tiny.call(pipe, prompts, latents=latents)[1])


def test_several_negatives_survive_stripping_of_their_marks(pipe):
    method = vsf.ValueSignFlip(scale=2.0, special_tokens="strip")
    stripped = vsf.encode(pipe, {"ab": 0.5, "wheels": 2.0}).stripped()
    assert stripped.shares == ((Share(5, 0.5), Share(13, 2.0)),)
    unmarked = vsf.Negative(stripped.embeddings, shares=stripped.shares)
    plain = vsf.ValueSignFlip(scale=2.0)
    assert torch.equal(
        draw(pipe, {"ab": 0.5, "wheels": 2.0}, method=method), draw(pipe, negative=unmarked, method=plain)
    )


def test_the_reference_layout_refuses_what_it_does_not_know(pipe):
    method = vsf.ValueSignFlip(layout="reference")
    for negatives in ({"wheels": 0.5}, {"wheels": 1.0, "hat": 1.0}):
        with pytest.raises(vsf.KnobError, match="one negative of weight 1"), vsf.guide(pipe, negatives, method=method):
            pass


@pytest.mark.parametrize("wrong", [{"wheels": -1}, {"wheels": "much"}, {"wheels": math.inf}, {3: 1.0}])
def test_weights_that_make_no_sense_are_refused(pipe, wrong):
    with pytest.raises(vsf.PromptError), vsf.guide(pipe, wrong):
        pass


@pytest.mark.parametrize("wrong", [[vsf.Prompt("a"), "wheels"], [vsf.Prompt("a"), 3], 7, {"wheels"}])
def test_what_is_neither_text_nor_weighted_texts_is_refused(pipe, wrong):
    with pytest.raises(vsf.PromptError, match=r"or texts, got \w+; a vsf\.Prompt has"), vsf.guide(pipe, wrong):
        pass


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (((vsf.Share(2),),), "add up"),
        ((), None),
        (((vsf.Share(3, 0.0),),), "above 0"),
        (((vsf.Share(3, math.nan),),), "above 0"),
        (((vsf.Share(3),), (vsf.Share(3),)), "add up"),
    ],
)
def test_shares_have_to_fit_the_tokens(shares, message):
    if message is None:
        assert vsf.Negative((torch.zeros(3, 2),), shares=shares).shares == ((vsf.Share(3, 1.0),),)
        return
    with pytest.raises(vsf.PromptError, match=message):
        vsf.Negative((torch.zeros(3, 2),), shares=shares)


def test_an_attached_pipeline_takes_weighted_negatives_schedule_and_mask(pipe):
    options = {"schedule": vsf.Schedule(end=0.5), "mask": (0, 0, 0.5, 1)}
    expected = draw(pipe, {"wheels": 0.5, "hat": 2.0}, **options)
    vsf.attach(pipe, method=STRONG, **options)
    assert torch.equal(tiny.call(pipe, negative_prompt={"wheels": 0.5, "hat": 2.0}), expected)


# When and in which layers -----------------------------------------------------------------------------------------


@EVERY_METHOD
def test_a_schedule_that_is_off_leaves_the_run_alone_to_the_last_bit(pipe, method):
    with vsf.guide(pipe, "wheels", method=method, schedule=vsf.Schedule(start=0.5, end=0.5)) as report:
        assert torch.equal(tiny.call(pipe), tiny.call(tiny.sd3()))
    assert (report.steps, report.calls, report.skipped) == (0, 0, 2)
    assert "the schedule was off in 2 denoiser calls" in str(report)


class Outputs:
    """What the denoiser returned, call by call."""

    def __init__(self, pipe):
        self.seen = []
        pipe.transformer.register_forward_hook(lambda model, args, output: self.seen.append(output[0].clone()))


def guided_calls(pipe, schedule, **settings):
    """Which denoiser calls differ from those of the unguided model on the same input."""
    inputs, outputs = [], Outputs(pipe)
    hook = pipe.transformer.register_forward_pre_hook(
        lambda model, args, kwargs: inputs.append(kwargs), with_kwargs=True
    )
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=schedule) as report:
        tiny.call(pipe, **settings)
    hook.remove()
    seen, differs = list(outputs.seen), []
    for kwargs, output in zip(inputs, seen, strict=True):
        host_text = kwargs["encoder_hidden_states"][:, : 77 + 24]  # both CLIPs, then T5
        plain = pipe.transformer(**{**kwargs, "encoder_hidden_states": host_text})[0]
        differs.append(not torch.equal(plain, output))
    return differs, report


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (vsf.Schedule(end=0.5), [True, True, False, False]),
        (vsf.Schedule(start=0.25, end=0.75), [False, True, True, False]),
        (vsf.Schedule(start=0.75), [False, False, False, True]),
        (vsf.Schedule(curve="linear"), [True] * 4),
    ],
)
@torch.no_grad()
def test_a_schedule_acts_on_its_part_of_the_steps(pipe, schedule, expected):
    differs, report = guided_calls(pipe, schedule, num_inference_steps=4)
    assert differs == expected
    assert (report.steps, report.skipped) == (sum(expected), 4 - sum(expected))


@torch.no_grad()
def test_a_run_that_starts_from_a_picture_counts_the_steps_that_are_left():
    import diffusers

    pipe = tiny.sd3(diffusers.StableDiffusion3Img2ImgPipeline)
    settings = {"image": torch.rand(1, 3, 8, 8), "strength": 0.5, "num_inference_steps": 8}
    differs, _ = guided_calls(pipe, vsf.Schedule(end=0.5), **settings)
    assert differs == [True, True, False, False]


def strengths(pipe, monkeypatch, schedule, steps=4):
    """The strength handed to each attention call: by step, by layer."""
    seen, real = [], AttentionPlan._attend

    def watching(plan, call, *rest):
        seen.append(call.plan.control.strength)
        return real(plan, call, *rest)

    monkeypatch.setattr(AttentionPlan, "_attend", watching)
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=schedule, observe=True) as report:
        tiny.call(pipe, num_inference_steps=steps)
    return seen, report


def test_a_curve_sets_the_strength_of_each_step(pipe, monkeypatch):
    seen, _ = strengths(pipe, monkeypatch, vsf.Schedule(curve="linear"))
    assert seen == [1.0, 1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]


def test_a_schedule_acts_on_its_layers_and_the_report_counts_those(pipe, monkeypatch):
    seen, report = strengths(pipe, monkeypatch, vsf.Schedule(layers=[1]))
    assert seen == [0.0, 1.0] * 4
    assert report.calls == 4
    change = report.change()
    assert bool(change[:, 0].isnan().all())
    assert bool((change[:, 1] > 0).all())


@EVERY_METHOD
def test_each_choice_of_layers_gives_a_picture_of_its_own(pipe, method):
    choices = [None, [0], [1], "0-1"]
    every, first, second, both = (
        draw(pipe, "wheels", method=method, schedule=vsf.Schedule(layers=layers)) for layers in choices
    )
    assert torch.equal(both, every)
    for one, other in combinations([tiny.call(pipe), every, first, second], 2):
        assert difference(one, other) > 1e-5


def test_layers_that_the_model_does_not_have_are_refused_before_anything_runs(pipe):
    with pytest.raises(vsf.KnobError, match="layer 2, but the model has 2"):
        draw(pipe, "wheels", schedule=vsf.Schedule(layers=[0, 2]))
    assert torch.equal(tiny.call(pipe), tiny.call(tiny.sd3()))


def test_a_compiled_denoiser_follows_schedule_and_mask():
    options = {"schedule": vsf.Schedule(curve="linear", layers=[0]), "mask": (0, 0, 0.5, 1)}
    pipe = tiny.sd3(num_layers=2)
    expected = draw(pipe, "wheels", settings={"num_inference_steps": 1}, **options)
    pipe.transformer.compile(backend="eager", fullgraph=True)
    assert difference(draw(pipe, "wheels", settings={"num_inference_steps": 1}, **options), expected) <= 1e-6


def test_a_denoiser_on_its_own_has_no_steps_to_follow(pipe):
    negative = vsf.encode(pipe, "wheels")
    with (
        pytest.raises(vsf.KnobError, match="has no steps"),
        vsf.guide(pipe.transformer, negative=negative, schedule=vsf.Schedule(end=0.5)),
    ):
        pass
    with vsf.guide(pipe.transformer, negative=negative, schedule=vsf.Schedule(layers=[0])):
        pass


def test_a_scheduler_that_does_not_tell_its_step_is_refused(pipe):
    class Mute:
        pass

    with vsf.guide(pipe, "wheels", schedule=vsf.Schedule(end=0.5)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe, "scheduler", Mute())
        with pytest.raises(vsf.KnobError, match="Mute does not tell at which step it is"):
            vsf.families.find_family(pipe).fraction_done(pipe, "steps")
        with pytest.raises(vsf.KnobError, match="Mute does not tell at which step it is"):
            vsf.families.find_family(pipe).fraction_done(pipe, "sigma")


def test_a_schedule_over_sigma_follows_the_noise_that_is_gone(pipe):
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe.scheduler.set_timesteps(4)
    gone = [1 - float(sigma) for sigma in pipe.scheduler.sigmas[:4]]
    assert gone[1] < 0.2 < gone[2]
    with vsf.guide(pipe, "wheels", schedule=vsf.Schedule(end=0.2, over="sigma")) as report:
        tiny.call(pipe, num_inference_steps=4)
    assert (report.steps, report.skipped) == (2, 2)
    with vsf.guide(pipe, "wheels", schedule=vsf.Schedule(end=0.2)) as report:
        tiny.call(pipe, num_inference_steps=4)
    assert (report.steps, report.skipped) == (1, 3)


def test_a_schedule_is_a_schedule(pipe):
    with pytest.raises(vsf.KnobError, match=r"takes a vsf\.Schedule, got 0\.75"), vsf.guide(pipe, "a", schedule=0.75):
        pass


# Where ------------------------------------------------------------------------------------------------------------


def half_mask(kind):
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    image = Image.new("L", (64, 64), 0)
    image.paste(255, (0, 0, 32, 64))
    return {"tensor": left, "box": (0, 0, 0.5, 1), "image": image}[kind]


@pytest.mark.parametrize("kind", ["tensor", "box", "image"])
@EVERY_METHOD
@torch.no_grad()
def test_a_mask_on_the_left_leaves_the_right_alone_to_the_last_bit_in_the_last_layer(method, kind):
    """With one layer, whose output goes nowhere but to its own token."""
    pipe = tiny.sd3(num_layers=1)
    outputs, settings = Outputs(pipe), {"num_inference_steps": 1}
    tiny.call(pipe, **settings)
    draw(pipe, "wheels", method=method, mask=half_mask(kind), settings=settings)
    draw(pipe, "wheels", method=method, settings=settings)
    plain, masked, whole = outputs.seen
    assert torch.equal(masked[..., 4:], plain[..., 4:])
    torch.testing.assert_close(masked[..., :4], whole[..., :4])
    assert difference(masked[..., :4], plain[..., :4]) > 1e-4


@torch.no_grad()
def test_rows_of_a_mask_are_rows_of_the_picture_and_patches_its_grid():
    pipe = tiny.sd3(num_layers=1, patch_size=2)
    outputs, settings = Outputs(pipe), {"num_inference_steps": 1}
    tiny.call(pipe, **settings)
    draw(pipe, "wheels", mask=(0, 0.75, 0.25, 1), settings=settings)
    plain, masked = outputs.seen
    changed = (masked != plain).any(1)[0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[6:, :2] = True
    assert torch.equal(changed, expected)


def test_a_mask_of_nothing_changes_nothing(pipe):
    assert torch.equal(draw(pipe, "wheels", mask=torch.zeros(5, 3)), tiny.call(pipe))
    assert difference(draw(pipe, "wheels", mask=torch.ones(5, 3)), draw(pipe, "wheels")) <= 1e-6
