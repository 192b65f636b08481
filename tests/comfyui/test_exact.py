"""Guidance on ComfyUI's models is exact: against two untouched rows in lockstep, and against itself in other forms."""

import math

import pytest
import torch
from vsf_comfyui import negative

import vsf
from comfyui.cases import distance
from comfyui.guiding import FLIP, METHODS, call_once, guided, name_of, prepared
from comfyui.hosts import ALL_MODELS, NO_HOST, REAL, STUB, host_module, model_names
from comfyui.tied import tied_call

EXACT = 1e-6


@pytest.fixture(scope="module", params=ALL_MODELS, ids=lambda model: f"{model[0]}-{model[1]}")
def model(request):
    where, name = request.param
    host = host_module(where)
    patcher, case = host.make(name)
    return host, patcher, case


@pytest.fixture
def uncut(monkeypatch):
    """Keep the padding that the model puts before negatives, as the rows of the reference do."""
    encode = negative._encode

    def whole(model, tokens, extra, latents):
        prepared_tokens, _ = negative._prepare(model, tokens, extra, latents)
        cut = encode(model, tokens, extra, latents)
        return negative.Encoded(prepared_tokens, 0, cut.marks, cut.weight)

    monkeypatch.setattr(negative, "_encode", whole)


@pytest.mark.parametrize("method", METHODS, ids=name_of)
@torch.no_grad()
def test_a_guided_call_equals_two_rows_in_lockstep(model, method, uncut, worst):
    host, patcher, case = model
    x = case.latents(5)
    t = torch.full((1,), case.time)
    positive = case.conditioning(6, 2)
    other = case.conditioning(6, 3)
    text, conds = prepared(patcher.model, case, positive, x)
    other_text, _ = prepared(patcher.model, case, other, x)
    expected = tied_call(patcher.model, case, x, t, text, other_text, method, conds)
    actual = call_once(guided(patcher, other, method=method), x, t, text, conds)
    plain = call_once(patcher, x, t, text, conds)
    assert distance(actual, plain) > 1e-4, "the negative did nothing"
    assert worst(name_of(method), host, case.name, distance(actual, expected)) <= EXACT


@torch.no_grad()
def test_a_method_that_does_nothing_leaves_the_model_as_it_is(model, worst):
    host, patcher, case = model
    positive = case.conditioning(7, 2)
    other = case.conditioning(5, 3)
    expected = host.sample(patcher, case, positive)
    off = guided(patcher, other, method=vsf.ValueSignFlip(scale=1.7, offset=math.inf))
    assert worst("off", host, case.name, distance(host.sample(off, case, positive), expected)) <= EXACT


@torch.no_grad()
def test_rows_that_are_batched_equal_rows_that_are_not(model, worst):
    host, patcher, case = model
    positive = case.conditioning(7, 2)
    uncond = case.conditioning(7, 9)
    guided_model = guided(patcher, case.conditioning(5, 3))
    together = host.sample(guided_model, case, positive, uncond, cfg=3.0)
    apart = host.sample(guided_model, case, positive, uncond, cfg=3.0, batched=False)
    assert distance(together, host.sample(patcher, case, positive, uncond, cfg=3.0)) > 1e-4
    assert worst("batched = split", host, case.name, distance(together, apart)) <= 3e-6


@torch.no_grad()
def test_two_halves_of_a_negative_equal_it_once(model, worst):
    host, patcher, case = model
    positive = case.conditioning(7, 2)
    other = case.conditioning(5, 3)
    once = host.sample(guided(patcher, other), case, positive)
    twice = host.sample(guided(patcher, other, other, weights=[0.5, 0.5]), case, positive)
    assert worst("halves", host, case.name, distance(twice, once)) <= EXACT


@torch.no_grad()
def test_a_mask_over_all_of_the_picture_equals_none_and_over_nothing_equals_no_guidance(model, worst):
    host, patcher, case = model
    positive = case.conditioning(7, 2)
    other = case.conditioning(5, 3)
    whole = host.sample(guided(patcher, other, mask=torch.ones(1, 16, 16)), case, positive)
    nowhere = host.sample(guided(patcher, other, mask=torch.zeros(1, 16, 16)), case, positive)
    assert worst("mask", host, case.name, distance(whole, host.sample(guided(patcher, other), case, positive))) <= EXACT
    assert worst("mask", host, case.name, distance(nowhere, host.sample(patcher, case, positive))) <= EXACT


@pytest.mark.parametrize("added", [0, 7])
@torch.no_grad()
def test_a_text_as_long_as_the_picture_is_told_from_it(model, added):
    host, patcher, case = model
    other = case.conditioning(5, 3)
    positive = case.conditioning(case.image - 5 + added, 2)
    plain = host.sample(patcher, case, positive)
    off = guided(patcher, other, method=vsf.ValueSignFlip(offset=math.inf))
    assert distance(host.sample(off, case, positive), plain) <= EXACT
    assert distance(host.sample(guided(patcher, other, method=FLIP), case, positive), plain) > 1e-4


@pytest.mark.parametrize("where", [STUB, REAL])
@pytest.mark.parametrize("name", ["hunyuan-video", "qwen-image", "krea2", "lumina2", "ltxv"])
@torch.no_grad()
def test_a_text_with_padding_under_a_mask_is_guided_and_off_is_exact(where, name, worst):
    if name not in model_names(where):
        pytest.skip(NO_HOST if where == REAL and not model_names(REAL) else f"this host has no {name}")
    host = host_module(where)
    patcher, case = host.make(name)
    other = case.conditioning(5, 3)
    ((tokens, extra),) = case.conditioning(9, 2)
    positive = [[tokens, {**extra, "attention_mask": (torch.arange(9) < 7)[None].long()}]]
    try:
        plain = host.sample(patcher, case, positive)
    except RuntimeError as error:
        pytest.skip(f"this host does not take such a mask: {error}")
    off = guided(patcher, other, method=vsf.ValueSignFlip(scale=1.7, offset=math.inf))
    assert worst("off", host, case.name, distance(host.sample(off, case, positive), plain)) <= EXACT
    assert distance(host.sample(guided(patcher, other), case, positive), plain) > 1e-4


class Quantised(torch.nn.Module):
    """A linear layer of 8-bit weights that are dequantised in each call, as with GGUF loaders."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.step = layer.weight.abs().max() / 127
        self.weight = torch.nn.Parameter((layer.weight / self.step).round().to(torch.int8), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.float() * self.step, self.bias)


@torch.no_grad()
def test_quantised_weights_are_guided_like_any(host):
    patcher, case = host.make("flux-schnell")
    for name, layer in list(patcher.model.diffusion_model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and "block" in name:
            parent, _, attribute = name.rpartition(".")
            setattr(patcher.model.diffusion_model.get_submodule(parent), attribute, Quantised(layer))
    positive = case.conditioning(7, 2)
    other = case.conditioning(5, 3)
    plain = host.sample(patcher, case, positive)
    off = guided(patcher, other, method=vsf.ValueSignFlip(scale=1.7, offset=math.inf))
    assert distance(host.sample(off, case, positive), plain) <= EXACT
    assert distance(host.sample(guided(patcher, other), case, positive), plain) > 1e-4
