"""Step caches under guidance: nothing that a guided step left is used in an unguided one, nor the other way round."""

import copy
from functools import partial

import diffusers
import pytest
import torch

import vsf
from families.harness import OFF, STRONG, call
from families.models import tiny_flux, tiny_joint, tiny_wan

FAR = [1.0] * 8
CACHES = {
    "first block": lambda pipe: diffusers.FirstBlockCacheConfig(threshold=10.0),
    "taylor": lambda pipe: diffusers.TaylorSeerCacheConfig(
        cache_interval=3, disable_cache_before_step=1, cache_identifiers=[r"(.*\.)?(transformer_)?blocks\.\d+\.attn\d?"]
    ),
    "mag": lambda pipe: diffusers.MagCacheConfig(
        threshold=10.0, max_skip_steps=2, retention_ratio=0.1, num_inference_steps=8, mag_ratios=FAR
    ),
    "broadcast": lambda pipe: diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        cross_attention_block_skip_range=3,
        spatial_attention_timestep_skip_range=(-1, 1001),
        cross_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=partial(float, 500),
        spatial_attention_block_identifiers=("blocks", "transformer_blocks"),
        cross_attention_block_identifiers=("blocks", "transformer_blocks"),
    ),
}
WAN = {**tiny_wan.SETTINGS, **tiny_wan.TEXT, "num_frames": 1}
BUILDS = {"flux": (tiny_flux.pipeline, tiny_flux.SETTINGS), "wan": (tiny_wan.pipeline, WAN)}
STEPS = {"num_inference_steps": 8}
SCHEDULES = {
    "ends": vsf.Schedule(end=0.5),
    "begins": vsf.Schedule(start=0.5),
    "both": vsf.Schedule(start=0.25, end=0.75),
}


class Steps:
    """Keeps what a denoiser is called with and what it returns."""

    def __init__(self, model):
        self.seen = []
        self.handle = model.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model, args, kwargs, output):
        self.seen.append((args, copy.copy(kwargs), output[0].clone()))


def cached(name, cache):
    build, settings = BUILDS[name]
    pipe = build()
    pipe.transformer.enable_cache(CACHES[cache](pipe))
    return pipe, {**settings, **STEPS}


def counted(pipe):
    """Count how often queries are made, and how often that would be without a cache in a run of 8 steps."""
    makers = [module.to_q for module in pipe.transformer.modules() if hasattr(module, "to_q")]
    seen = []
    for maker in makers:
        maker.register_forward_hook(lambda *_: seen.append(1))
    return seen, 8 * len(makers)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", BUILDS)
def test_a_cache_saves_as_many_steps_guided_as_unguided(name, cache):
    pipe, settings = cached(name, cache)
    seen, uncached = counted(pipe)
    plain = call(pipe, "a red car", **settings)
    computed = len(seen)
    assert computed < uncached
    with vsf.guide(pipe, "wheels", method=OFF):
        assert torch.equal(call(pipe, "a red car", **settings), plain)
    assert len(seen) == 2 * computed
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert not torch.equal(call(pipe, "a red car", **settings), plain)
    assert len(seen) == 3 * computed
    assert torch.equal(call(pipe, "a red car", **settings), plain)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", BUILDS)
def test_where_a_schedule_ends_the_steps_are_those_of_a_cache_that_begins_there(name, cache, schedule):
    pipe, settings = cached(name, cache)
    steps = Steps(pipe.transformer)
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=SCHEDULES[schedule]) as report:
        call(pipe, "a red car", **settings)
    steps.handle.remove()
    own = SCHEDULES[schedule]
    guided = [own.start <= step / 8 < own.end for step in range(8)]
    assert (report.steps, report.skipped) == (sum(guided), 8 - sum(guided))
    fresh, _ = cached(name, cache)
    for step, (args, kwargs, output) in enumerate(steps.seen):
        if guided[step]:
            continue
        if step == 0 or guided[step - 1]:
            fresh.transformer._reset_stateful_cache()
            set_step(fresh.transformer, step)
        with torch.no_grad(), fresh.transformer.cache_context("cond"):
            assert torch.equal(fresh.transformer(*args, **kwargs)[0], output), step


def set_step(model, step):
    """Let MagCache begin at this step: it has a ratio for each."""
    with model.cache_context("cond"):
        for module in model.modules():
            for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values():
                if "Mag" in type(hook).__name__:
                    hook.state_manager.get_state().step_index = step


@pytest.mark.parametrize("cache", [cache for cache in CACHES if cache != "broadcast"])
def test_the_unconditional_call_keeps_a_cache_of_its_own(cache):
    pipe, settings = cached("wan", cache)
    settings |= {"guidance_scale": 3.0, "negative_prompt": "ugly"}
    steps, (seen, uncached) = Steps(pipe.transformer), counted(pipe)
    call(pipe, "a red car", **settings)
    plain, steps.seen, computed = steps.seen, [], len(seen)
    assert computed < 2 * uncached
    with vsf.guide(pipe, "wheels", method=STRONG):
        call(pipe, "a red car", **settings)
    assert torch.equal(steps.seen[1][2], plain[1][2])
    assert not torch.equal(steps.seen[0][2], plain[0][2])
    assert len(seen) == 2 * computed


@pytest.mark.parametrize("cache", CACHES)
def test_an_error_in_a_guided_run_leaves_nothing_in_the_cache(cache):
    pipe, settings = cached("flux", cache)
    plain = call(pipe, "a red car", **settings)

    def callback(host, step, timestep, tensors):
        if step == 2:
            raise KeyboardInterrupt
        return tensors

    with pytest.raises(KeyboardInterrupt), vsf.guide(pipe, "wheels", method=STRONG):
        call(pipe, "a red car", callback_on_step_end=callback, **settings)
    assert torch.equal(call(pipe, "a red car", **settings), plain)


def faster(distilled):
    return diffusers.FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 901),
        current_timestep_callback=partial(float, 500),
        attention_weight_callback=lambda _: 0.5,
        tensor_format="BFCHW",
        is_guidance_distilled=distilled,
        spatial_attention_block_identifiers=("transformer_blocks",),
    )


def test_a_cache_that_leaves_out_unconditional_rows_is_refused_by_name():
    case = next(case for case in tiny_joint.PIPELINES if case.name == "cogvideox")
    pipe = case.build()
    pipe.transformer.enable_cache(faster(distilled=False))
    refused = pytest.raises(vsf.KnobError, match="FasterCache leaves out the unconditional rows")
    with vsf.guide(pipe, "wheels"), refused:
        case.run(pipe, **case.cfg)


def test_a_cache_that_cannot_start_anew_is_refused_by_name_where_a_schedule_turns():
    pipe = tiny_flux.pipeline()
    config = faster(distilled=True)
    config.current_timestep_callback = lambda: pipe.current_timestep  # the first, 1000, has nothing to repeat yet
    pipe.transformer.enable_cache(config)
    settings = {**tiny_flux.SETTINGS, **STEPS}
    refused = pytest.raises(vsf.KnobError, match="FasterCache cannot start anew within a run")
    with vsf.guide(pipe, "wheels", schedule=SCHEDULES["ends"]), refused:
        call(pipe, "a red car", **settings)
