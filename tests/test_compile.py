"""A compiled denoiser: one graph unguided, one guided, and no other whatever changes between runs."""

import gc
import weakref

import pytest
import torch
from diffusers.hooks import HookRegistry
from diffusers.hooks.layer_skip import AttentionProcessorSkipHook
from torch._dynamo.testing import CompileCounter

import vsf
from families.harness import call
from families.models import tiny_flux
from support import tiny_pipelines as tiny


@pytest.fixture
def compiled():
    """A pipeline with a compiled denoiser, and the counter of its graphs."""
    torch._dynamo.reset()
    pipe, counter = tiny.sd3(num_layers=1), CompileCounter()
    pipe.transformer.compile(backend=counter, fullgraph=True, dynamic=False)
    yield pipe, counter
    torch._dynamo.reset()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def test_one_graph_off_and_one_on_whatever_changes(compiled):
    pipe, counter = compiled
    vsf.attach(pipe)
    tiny.call(pipe)
    assert counter.frame_count == 1
    tiny.call(pipe, negative_prompt="wheels")
    assert counter.frame_count == 2
    tiny.call(pipe)
    for negative in ("hat", "door", "wheels"):  # 10, 12 and 16 tokens
        tiny.call(pipe, negative_prompt=negative)
    vsf.attach(pipe, method=vsf.ValueSignFlip(scale=3.0, offset=0.5))
    tiny.call(pipe, negative_prompt="wheels")
    vsf.attach(pipe, method=vsf.ValueSignFlip(), schedule=vsf.Schedule(end=0.9, curve="cosine"))
    tiny.call(pipe, negative_prompt="wheels", num_inference_steps=3)
    assert counter.frame_count == 2


@pytest.mark.parametrize("method", ["vsf", "vsf-centred", "nag", "nasa", "ong", "negpip"])
def test_compiled_and_plain_agree_for_every_length(compiled, method):
    pipe, counter = compiled
    plain = tiny.sd3(num_layers=1)
    vsf.attach(pipe, method=method)
    schedule = vsf.Schedule(curve="linear")
    for negative in ("wheels", "hat"):
        with vsf.guide(plain, negative, method=method):
            expected = tiny.call(plain)
        assert difference(tiny.call(pipe, negative_prompt=negative), expected) <= 1e-5
    vsf.attach(pipe, method=method, schedule=schedule)
    with vsf.guide(plain, "wheels", method=method, schedule=schedule):
        expected = tiny.call(plain)
    assert difference(tiny.call(pipe, negative_prompt="wheels"), expected) <= 1e-5
    assert counter.frame_count == 1


def test_one_layer_at_a_time_is_compiled_as_often(compiled):
    torch._dynamo.reset()
    pipe, counter = tiny.sd3(num_layers=2, dual_attention_layers=()), CompileCounter()
    for block in pipe.transformer.transformer_blocks:
        block.compile(backend=counter, fullgraph=True, dynamic=False)
    vsf.attach(pipe)
    tiny.call(pipe, negative_prompt="wheels")
    graphs = counter.frame_count
    tiny.call(pipe, negative_prompt="hat")
    assert counter.frame_count == graphs <= 2  # the last block has no text output: it is another graph


# guide() once for each request ------------------------------------------------------------------------------------

REQUESTS = [
    (negative, vsf.ValueSignFlip(scale=1 + number / 8, offset=number / 16), vsf.Schedule(end=end, curve=curve))
    for number, (negative, end, curve) in enumerate(
        [
            ("wheels", 1.0, "constant"),
            ("hat", 0.9, "cosine"),
            ("door", 0.8, "linear"),
            ("a tree", 1.0, "constant"),
            ("sky", 0.7, "linear"),
        ]
        * 4
    )
]


def wholly(pipe, counter):
    pipe.transformer = torch.compile(pipe.transformer, backend=counter, fullgraph=True, dynamic=False)


def in_place(pipe, counter):
    pipe.transformer.compile(backend=counter, fullgraph=True, dynamic=False)


def by_blocks(pipe, counter):
    pipe.transformer.compile_repeated_blocks(backend=counter, fullgraph=True, dynamic=False)


@pytest.mark.parametrize(
    ("build", "settings", "compile_it", "graphs"),
    [
        pytest.param(lambda: tiny.sd3(num_layers=1), tiny.SETTINGS, wholly, 1, marks=pytest.mark.slow),
        (lambda: tiny.sd3(num_layers=1), tiny.SETTINGS, in_place, 1),
        pytest.param(tiny_flux.pipeline, tiny_flux.SETTINGS, wholly, 1, marks=pytest.mark.slow),
        (tiny_flux.pipeline, tiny_flux.SETTINGS, by_blocks, 3),
    ],
    ids=["sd3 wrapped", "sd3 in place", "flux wrapped", "flux by blocks"],
)
def test_twenty_requests_to_a_compiled_model_compile_it_once(build, settings, compile_it, graphs):
    torch._dynamo.reset()
    pipe, counter, eager = build(), CompileCounter(), build()
    compile_it(pipe, counter)
    plain = call(pipe, "a red car", **settings)
    assert counter.frame_count == graphs
    for negative, method, schedule in REQUESTS:
        with vsf.guide(pipe, negative, method=method, schedule=schedule):
            got = call(pipe, "a red car", **settings)
        with vsf.guide(eager, negative, method=method, schedule=schedule):
            assert difference(got, call(eager, "a red car", **settings)) <= 1e-5
        assert counter.frame_count == 2 * graphs
    assert torch.equal(call(pipe, "a red car", **settings), plain)
    assert counter.frame_count == 2 * graphs
    torch._dynamo.reset()


def test_a_model_that_was_guided_is_freed_with_its_pipeline():
    pipe = tiny.sd3()
    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe)
    denoiser = weakref.ref(pipe.transformer)
    del pipe
    gc.collect()
    assert denoiser() is None


def test_an_attention_that_is_skipped_in_compiled_code_is_refused_by_name(compiled):
    pipe, _ = compiled
    layer = pipe.transformer.transformer_blocks[0].attn
    hook = AttentionProcessorSkipHook(None, skip_attention_scores=True)
    HookRegistry.check_if_exists_or_initialize(layer).register_hook(hook, "perturbed")
    with vsf.guide(pipe, "wheels"), pytest.raises(vsf.UnsupportedAttentionError, match="AttentionProcessorSkipHook"):
        tiny.call(pipe)
