"""Guided MODELs within workflows, on the stub and on a real host."""

import dataclasses
import math

import pytest
import torch
from vsf_comfyui import families, guide, selftest
from vsf_comfyui.guide import Plan

import vsf
from comfyui.cases import distance
from comfyui.guiding import FLIP, METHODS, call_once, guided, name_of, prepared
from vsf.errors import KnobError, NotGuidedError, PromptError, UnsupportedPipelineError
from vsf.guidance import Guidance

pytestmark = pytest.mark.usefixtures("_without_gradients")
SHARED = ("flux-schnell", "sd3", "hunyuan-video", "lumina2", "z-image", "wan-t2v", "sdxl")
"""Models that both hosts have."""


@pytest.fixture
def _without_gradients():
    with torch.no_grad():
        yield


def texts(case):
    """Return a positive and a negative."""
    return case.conditioning(7, 2), case.conditioning(5, 3)


def hooks_on(model) -> int:
    """Count the hooks and shadowed forwards of a model."""
    return sum(
        len(part._forward_pre_hooks) + len(part._forward_hooks) + ("forward" in vars(part)) for part in model.modules()
    )


# What stays behind -------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """A run that is cancelled."""


@dataclasses.dataclass(frozen=True)
class Breaks(Guidance):
    """A method that is cancelled at its third attention."""

    name = "breaks"
    calls: list = dataclasses.field(default_factory=list)

    def combine(self, partials):
        self.calls.append(partials.rows)
        if len(self.calls) == 3:
            raise StoppedError
        return partials.unguided


@pytest.mark.parametrize("name", SHARED)
def test_a_guided_and_a_cancelled_run_leave_nothing_on_the_model(host, name):
    patcher, case = host.make(name)
    positive, negative = texts(case)
    before = host.sample(patcher, case, positive)
    hooks = hooks_on(patcher.model)
    with pytest.raises(StoppedError):
        host.sample(guided(patcher, negative, method=Breaks()), case, positive)
    assert hooks_on(patcher.model) == hooks
    host.sample(guided(patcher, negative), case, positive)
    assert hooks_on(patcher.model) == hooks
    assert torch.equal(host.sample(patcher, case, positive), before)


def test_a_clone_of_a_guided_model_is_guided_and_the_model_it_came_from_is_not(host):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    plain = host.sample(patcher, case, positive)
    expected = host.sample(guided(patcher, negative), case, positive)
    guided_model = guided(patcher, negative)
    assert torch.equal(host.sample(guided_model.clone(), case, positive), expected)
    assert torch.equal(host.sample(patcher, case, positive), plain)


# With other patches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flux-schnell", "wan-t2v", "sdxl"])
def test_another_override_stays_in_use_in_either_order(host, name):
    patcher, case = host.make(name)
    positive, negative = texts(case)
    calls = []

    def other(func, *args, **kwargs):
        calls.append(args[0].shape)
        return func(*args, **kwargs)

    def overridden(model):
        clone = model.clone()
        clone.model_options["transformer_options"]["optimized_attention_override"] = other
        return clone

    expected = host.sample(guided(patcher, negative), case, positive)
    before = host.sample(guided(overridden(patcher), negative), case, positive)
    first = len(calls)
    behind = host.sample(overridden(guided(patcher, negative)), case, positive)
    assert len(calls) == 2 * first > 0
    assert torch.equal(before, behind)
    assert distance(before, expected) <= 1e-6
    off = guided(overridden(patcher), negative, method=vsf.ValueSignFlip(offset=math.inf))
    plain = host.sample(overridden(patcher), case, positive)
    assert distance(host.sample(off, case, positive), plain) <= 1e-6


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_cross_attention_that_others_have_replaced_is_guided(host, method):
    patcher, case = host.make("sdxl")
    positive, negative = texts(case)
    seen = []

    def replacement(q, k, v, extra):
        seen.append(k.shape[1])
        return host.attend_plainly(q, k, v, extra["n_heads"])

    replaced = patcher.clone()
    for block, number in (("input", 4), ("middle", 0), ("output", 0)):
        replaced.set_model_attn2_replace(replacement, block, number)
    expected = host.sample(guided(patcher, negative, method=method), case, positive)
    actual = host.sample(guided(replaced, negative, method=method), case, positive)
    assert distance(actual, expected) < 1e-6
    assert set(seen) == {positive[0][0].shape[1]}, "a replacement sees the positive text alone"


def test_every_conditioning_but_the_guiders_negative_is_guided(host, monkeypatch):
    patcher, case = host.make("flux-schnell")
    first, second, uncond, negative = (case.conditioning(7, seed) for seed in (2, 4, 9, 3))
    calls = []
    original = guide.row_owners

    def watched(rows, options):
        row_owners = original(rows, options)
        calls.append((list(options["cond_or_uncond"]), row_owners))
        return row_owners

    monkeypatch.setattr(guide, "row_owners", watched)
    host.dual_cfg(guided(patcher, negative), case, first, second, uncond)
    names = ["positive", "middle", "negative"]
    assert any(len(order) == len(names) and order != sorted(order) for order, _ in calls), "an order that is no rule"
    for order, row_owners in calls:
        assert row_owners.count(None) == sum(chunk == host.DUAL_CFG_NEGATIVE for chunk in order)
        for chunk, owner in zip(order, row_owners, strict=True):
            assert (owner is None) == (chunk == host.DUAL_CFG_NEGATIVE)


def test_several_pictures_in_a_batch_equal_one_by_one(host):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    x = torch.cat([case.latents(5), case.latents(6)])
    t = torch.full((2,), case.time)
    text, conds = prepared(patcher.model, case, positive, x[:1])
    two_conds = {name: torch.cat([cond, cond]) if torch.is_tensor(cond) else cond for name, cond in conds.items()}
    guided_model = guided(patcher, negative)
    together = call_once(guided_model, x, t, torch.cat([text, text]), two_conds)
    alone = torch.cat([call_once(guided_model, x[row : row + 1], t[:1], text, conds) for row in (0, 1)])
    assert distance(together, alone) < 1e-6


# Several negatives, schedules, layers ------------------------------------------------------------------------------


def test_nodes_in_a_row_add_their_negatives_to_one_plan(host):
    patcher, case = host.make("wan-t2v")
    positive, negative = texts(case)
    other = case.conditioning(4, 8)
    together = guided(patcher, negative, other, weights=[1.0, 0.5])
    in_a_row = guided(guided(patcher, negative), other, weights=[0.5])
    expected = host.sample(together, case, positive)
    assert torch.equal(host.sample(in_a_row, case, positive), expected)
    both_entries = guided(patcher, [*negative, *other])
    equal_weights = guided(patcher, negative, other)
    assert torch.equal(host.sample(both_entries, case, positive), host.sample(equal_weights, case, positive))


def test_nodes_in_a_row_share_every_other_setting(host):
    patcher, case = host.make("wan-t2v")
    _, negative = texts(case)
    guided_model = guided(patcher, negative)
    with pytest.raises(KnobError, match="their method differs"):
        guided(guided_model, negative, method=vsf.NegativeAwaySteerAttention())
    with pytest.raises(KnobError, match="their schedule differs"):
        guided(guided_model, negative, schedule=vsf.Schedule(end=0.5))
    with pytest.raises(KnobError, match="their mask differs"):
        guided(guided_model, negative, mask=torch.ones(1, 8, 8))


@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 0.5, 2), (0.5, 1.0, 2), (0.25, 0.75, 2), (0.0, 1.0, 4)])
def test_a_schedule_counts_steps(host, start, end, steps):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    guided_model, trace = guide.guide(patcher, Plan(FLIP, ((negative, 1.0),), vsf.Schedule(start, end)))
    host.sample(guided_model, case, positive, steps=4)
    assert (trace.report.steps, trace.report.skipped) == (steps, 4 - steps)


def test_steps_count_and_not_calls_of_the_model():
    sigmas = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])

    def fraction(now, over="steps"):
        return guide.fraction_done({"sample_sigmas": sigmas, "sigmas": torch.tensor([now])}, over)

    assert [fraction(now) for now in (1.0, 0.75, 0.5, 0.25)] == [0, 0.25, 0.5, 0.75]
    assert fraction(0.9) == 0, "a sampler that calls the model between two levels is still in the step"
    assert fraction(0.75 * (1 + 1e-7)) == fraction(0.75)
    assert fraction(0.6, "sigma") == pytest.approx(0.4)
    assert guide.fraction_done({}, "steps") == 0


def test_chosen_layers_are_guided_alone_and_named_in_the_trace(host):
    patcher, case = host.make("wan-t2v")
    positive, negative = texts(case)
    plain = host.sample(patcher, case, positive)
    all_layers, trace = guide.guide(patcher, Plan(FLIP, ((negative, 1.0),)))
    host.sample(all_layers, case, positive)
    assert trace.report.layers == ("attention 0", "attention 1")
    chosen, trace = guide.guide(patcher, Plan(FLIP, ((negative, 1.0),), vsf.Schedule(layers="1")))
    actual = host.sample(chosen, case, positive)
    assert trace.report.layers == ("attention 1",)
    assert not torch.equal(actual, plain)
    assert not torch.equal(actual, host.sample(all_layers, case, positive))
    with pytest.raises(KnobError, match="layer 9, but the model has 2"):
        host.sample(guided(patcher, negative, schedule=vsf.Schedule(layers="0,9")), case, positive)


def test_a_negative_that_weighs_nothing_is_left_out(host):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    silent, trace = guide.guide(patcher, Plan(FLIP, ()))
    assert torch.equal(host.sample(silent, case, positive), host.sample(patcher, case, positive))
    assert "nothing guided" in trace.text()
    weighed = [(*entry[:1], {**entry[1], "vsf_weight": 0.5}) for entry in negative]
    expected = host.sample(guided(patcher, negative, weights=[0.5]), case, positive)
    assert torch.equal(host.sample(guided(patcher, weighed), case, positive), expected)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flux-schnell", "wan-t2v"])
def test_a_run_in_which_nothing_matched_is_an_error_that_names_the_model(host, name, monkeypatch):
    patcher, case = host.make(name)
    positive, negative = texts(case)
    class_name = type(patcher.model.diffusion_model).__name__
    other = families.FAMILIES["WanModel" if case.kind == "joint" else "Flux"]
    wrong = dataclasses.replace(other, corrections=(), counts_image=case.kind == "cross")
    monkeypatch.setattr(families, "FAMILIES", {class_name: wrong})
    with pytest.raises(NotGuidedError, match=f"none of the .* attention calls of {class_name}"):
        host.sample(guided(patcher, negative), case, positive)


def test_a_run_without_attention_is_an_error(host, monkeypatch):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    monkeypatch.setattr(type(patcher.model.diffusion_model), "forward", lambda self, x, *args, **kwargs: x * 0)
    with pytest.raises(NotGuidedError, match="no attention call of Flux was seen"):
        host.sample(guided(patcher, negative), case, positive)


def test_a_model_that_is_not_known_is_refused_by_name_with_the_reason(host):
    patcher, case = host.make("flux-schnell")
    _, negative = texts(case)
    for name, reason in (("HunYuanDiT", "does not pass the host's options on"), ("Unheard", "not been shown")):
        patcher.model.diffusion_model.__class__ = type(name, (type(patcher.model.diffusion_model),), {})
        with pytest.raises(UnsupportedPipelineError, match=f"{name} cannot be guided: .*{reason}"):
            guided(patcher, negative)


def test_conditions_that_stand_beside_the_text_are_refused(host):
    patcher, case = host.make("hunyuan-video")
    positive, negative = texts(case)
    x, t = case.latents(5), torch.full((1,), case.time)
    text, conds = prepared(patcher.model, case, positive, x)
    with pytest.raises(UnsupportedPipelineError, match="HunyuanVideo cannot be guided here: its condition txt_byt5"):
        call_once(guided(patcher, negative), x, t, text, {**conds, "txt_byt5": torch.ones(1, 3, 8)})


def test_a_negative_of_another_encoder_is_refused(host):
    patcher, case = host.make("flux-schnell")
    positive, _ = texts(case)
    wider = dataclasses.replace(case, channels=case.channels + 4).conditioning(5, 3)
    with pytest.raises(PromptError, match="channels"):
        host.sample(guided(patcher, wider), case, positive)


@pytest.mark.parametrize("limit", ["area", "mask", "start_percent"])
def test_a_limited_negative_is_refused(host, limit):
    patcher, case = host.make("flux-schnell")
    _, ((tokens, extra),) = texts(case)
    with pytest.raises(KnobError, match=f"limited by {limit}"):
        guided(patcher, [[tokens, {**extra, limit: 0.5}]])


def test_settings_that_comfyui_cannot_follow_are_refused(host):
    patcher, case = host.make("flux-schnell")
    _, negative = texts(case)
    with pytest.raises(KnobError, match="calls the model twice"):
        guided(patcher, negative, method=vsf.ClassifierFreeGuidance())
    with pytest.raises(KnobError, match="reference"):
        guided(patcher, negative, method=vsf.ValueSignFlip(layout="reference"))
    with pytest.raises(KnobError, match="got 3 of them"):
        guided(patcher, negative, mask=torch.ones(3, 8, 8))
    stripped = guided(patcher, negative, method=vsf.ValueSignFlip(special_tokens="strip"))
    with pytest.raises(PromptError, match="VSF Encode Negative"):
        host.sample(stripped, case, case.conditioning(7, 2))


def test_a_mask_over_a_part_of_the_picture_is_refused(host):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    guided_model = guided(patcher, negative, mask=torch.ones(1, 8, 8))

    class Tiles:
        def __call__(self, executor, x, *args, **kwargs):
            executor(x[..., :4], *args, **kwargs)
            return executor(x, *args, **kwargs)

    tiled = guided_model.clone()
    wrappers = tiled.get_wrappers("apply_model", "vsf")
    tiled.remove_wrappers_with_key("apply_model", "vsf")
    tiled.add_wrapper_with_key("apply_model", "tiles", Tiles())
    tiled.add_wrapper_with_key("apply_model", "vsf", wrappers[0])
    with pytest.raises(KnobError, match="a part of it"):
        host.sample(tiled, case, positive)


# Padding -----------------------------------------------------------------------------------------------------------


def padded(conditioning, behind, before=0, **more):
    """Return a conditioning with zeros around its tokens."""
    ((tokens, extra),) = conditioning
    return [[torch.nn.functional.pad(tokens, (0, 0, before, behind)), {**extra, **more}]]


@pytest.mark.parametrize("name", ["flux-schnell", "wan-t2v"])
def test_zeros_around_a_negative_are_trimmed(host, name):
    patcher, case = host.make(name)
    positive, negative = texts(case)
    expected = host.sample(guided(patcher, negative), case, positive)
    assert torch.equal(host.sample(guided(patcher, padded(negative, 9)), case, positive), expected)


def test_what_a_mask_or_the_encoder_calls_padding_is_trimmed(host, caplog):
    patcher, case = host.make("wan-t2v")
    positive, ((tokens, extra),) = texts(case)
    expected = host.sample(guided(patcher, [[tokens, extra]]), case, positive)
    noise = torch.randn(1, 72, case.channels)
    longer, real = torch.cat([tokens, noise], 1), torch.arange(77)[None] < 5
    for key, mask in (("attention_mask", real.long()), ("vsf_words", real)):
        actual = host.sample(guided(patcher, [[longer, {**extra, key: mask}]]), case, positive)
        assert torch.equal(actual, expected), key
    assert not caplog.records
    host.sample(guided(patcher, [[longer, extra]]), case, positive)
    assert "77 tokens, most of which may be padding" in caplog.text


def test_a_negative_of_nothing_but_zeros_is_refused(host):
    patcher, case = host.make("flux-schnell")
    positive, ((tokens, extra),) = texts(case)
    with pytest.raises(PromptError, match="nothing but zeros"):
        host.sample(guided(patcher, [[tokens * 0, extra]]), case, positive)


# Facts and the self-test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARED)
def test_the_self_test_passes(host, name):
    patcher, case = host.make(name)
    positive, negative = texts(case)
    own = guided(patcher, case.conditioning(4, 8))  # which the test leaves aside
    result = selftest.self_test(own, positive, negative, lambda model, prompt: host.sample(model, case, prompt))
    assert result.passed, str(result)
    assert "guidance is exact here" in str(result)


def test_the_self_test_notices_a_wrong_fact(host, monkeypatch):
    patcher, case = host.make("lumina2")
    positive, negative = texts(case)
    wrong = dataclasses.replace(families.FAMILIES["NextDiT"], corrections=())
    monkeypatch.setattr(families, "FAMILIES", {"NextDiT": wrong})
    result = selftest.self_test(patcher, positive, negative, lambda model, prompt: host.sample(model, case, prompt))
    assert not result.passed
    assert "NOT EXACT" in str(result)


def test_the_trace_tells_where_the_image_looked(host):
    patcher, case = host.make("flux-schnell")
    positive, negative = texts(case)
    guided_model, trace = guide.guide(patcher, Plan(FLIP, ((negative, 1.0),)))
    host.sample(guided_model, case, positive)
    assert "Switch on `observe`" in trace.text()
    with pytest.raises(NotGuidedError, match="switch on observe"):
        trace.pictures(0)
    guided_model, trace = guide.guide(patcher, Plan(FLIP, ((negative, 1.0),), observe=True))
    assert "has not run yet" in trace.text()
    host.sample(guided_model, case, positive)
    text = trace.text()
    assert "vsf on Flux" in text
    assert "attention 1: output changed by" in text
    pictures = trace.pictures(0, size=64)
    assert pictures.shape == (1, 64, 64, 3)
    assert 0 <= float(pictures.min()) < float(pictures.max()) == 1
    with pytest.raises(PromptError, match="numbered 0 to 0"):
        trace.pictures(1)
    host.sample(guided_model, case, positive)
    assert trace.report.steps == 3, "a new run forgets the one before"
