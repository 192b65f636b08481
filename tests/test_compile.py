"""A compiled denoiser: one graph unguided, one guided, and no other whatever changes between runs."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import tiny_pipelines as tiny
import vsf


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


@pytest.mark.parametrize("method", ["vsf", "nag", "nasa", "ong", "negpip"])
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
