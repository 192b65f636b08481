"""Guidance together with other changes of a MODEL on a real host: LoRA, merges, step caches, compiling, its own NAG."""

import importlib
import math

import pytest
import torch

import vsf
from comfyui.cases import distance
from comfyui.guiding import guided
from comfyui.hosts import REAL, model_names

OFF = vsf.ValueSignFlip(scale=1.7, offset=math.inf)
NAMES = model_names(REAL)


@pytest.fixture(scope="module")
def parts(real):
    patcher, case = real.make("flux-schnell")
    return real, patcher, case, case.conditioning(7, 2), case.conditioning(5, 3)


def with_lora(model, strength=0.3):
    """Return a clone with a difference on every attention weight."""
    clone = model.clone()
    generator = torch.Generator().manual_seed(9)
    patches = {
        name: ("diff", (torch.randn(weight.shape, generator=generator) * 0.05,))
        for name, weight in model.model.state_dict().items()
        if name.endswith("qkv.weight")
    }
    assert clone.add_patches(patches, strength)
    return clone


@torch.no_grad()
def test_a_lora_before_or_behind_the_node_is_the_same(parts):
    host, patcher, case, positive, negative = parts
    plain = host.sample(patcher, case, positive)
    expected = host.sample(with_lora(patcher), case, positive)
    assert distance(expected, plain) > 1e-4
    assert distance(host.sample(guided(with_lora(patcher), negative, method=OFF), case, positive), expected) <= 1e-6
    before = host.sample(guided(with_lora(patcher), negative), case, positive)
    behind = host.sample(with_lora(guided(patcher, negative)), case, positive)
    assert torch.equal(before, behind)
    assert distance(before, expected) > 1e-4
    assert torch.equal(host.sample(patcher, case, positive), plain)


@torch.no_grad()
def test_a_merge_of_a_guided_model_stays_guided(parts):
    host, patcher, case, positive, negative = parts
    other, _ = host.make("flux-schnell")
    with torch.no_grad():
        for weight in other.model.diffusion_model.parameters():
            weight.mul_(1.1)
    merge = importlib.import_module("comfy_extras.nodes_model_merging").ModelMergeSimple()

    def merged(model):
        return merge.merge(model, other, 0.5)[0]

    before = host.sample(merged(guided(patcher, negative)), case, positive)
    behind = host.sample(guided(merged(patcher), negative), case, positive)
    assert torch.equal(before, behind)
    assert distance(before, host.sample(merged(patcher), case, positive)) > 1e-4


@torch.no_grad()
def test_a_step_cache_before_or_behind_the_node_is_the_same(parts):
    host, patcher, case, positive, negative = parts
    node = importlib.import_module("comfy_extras.nodes_easycache").EasyCacheNode

    def cached(model):
        return node.execute(model, 0.2, 0.15, 0.95, False).args[0]

    before = host.sample(guided(cached(patcher), negative), case, positive, steps=6)
    behind = host.sample(cached(guided(patcher, negative)), case, positive, steps=6)
    assert distance(before, behind) <= 1e-6
    assert distance(before, host.sample(cached(patcher), case, positive, steps=6)) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [vsf.Schedule(), vsf.Schedule(curve="cosine")], ids=["constant", "curve"])
@pytest.mark.parametrize("name", [name for name in ("flux-schnell", "z-image", "wan-t2v", "sdxl") if name in NAMES])
@torch.no_grad()
def test_a_compiled_model_is_one_graph_and_equal_in_either_order(real, name, schedule):
    compile_model = importlib.import_module("comfy_api.torch_helpers").set_torch_compile_wrapper
    patcher, case = real.make(name)
    positive, negative = case.conditioning(7, 2), case.conditioning(5, 3)
    expected = real.sample(guided(patcher, negative, schedule=schedule), case, positive, steps=4)
    for compiled_last in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = patcher.clone()
        if not compiled_last:
            compile_model(model=model, backend="eager")
        model = guided(model, negative, schedule=schedule)
        if compiled_last:
            compile_model(model=model, backend="eager")
        actual = real.sample(model, case, positive, steps=4)
        counters = torch._dynamo.utils.counters
        assert distance(actual, expected) <= 1e-6
        assert sum(counters["graph_break"].values()) == 0
        assert counters["stats"]["unique_graphs"] == 1


class CancelledError(Exception):
    """A run that is interrupted."""


def cancelled(model):
    """Return a clone whose second model call is interrupted."""
    calls = []

    def stop(executor, *args, **kwargs):
        calls.append(None)
        if len(calls) == 2:
            raise CancelledError
        return executor(*args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key("apply_model", "stop", stop)
    return clone


def rows_of_a_run(host, model, case, positive, negative):
    """Return the number of batch rows that the model evaluates in a run, and the run's result."""
    rows = []

    def count(executor, x, *args, **kwargs):
        rows.append(len(x))
        return executor(x, *args, **kwargs)

    counted = model.clone()
    counted.add_wrapper_with_key("apply_model", "count", count)
    out = host.sample(counted, case, positive, negative)
    return sum(rows), out


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_beside_the_hosts_own_nag_every_model_is_guided_without_more_rows(real, name, peers):
    try:
        node = importlib.import_module("comfy_extras.nodes_nag").NAGuidance
    except ModuleNotFoundError:
        pytest.skip("this host has no NAGuidance")
    patcher, case = real.make(name)
    positive, negative = case.conditioning(7, 2), case.conditioning(7, 3)
    rows, plain = rows_of_a_run(real, patcher, case, positive, negative)
    nag = vsf.NormalizedAttentionGuidance(scale=5.0, tau=1.5, alpha=0.5)
    ours, out = rows_of_a_run(real, guided(patcher, negative, method=nag), case, positive, negative)
    theirs, their_out = rows_of_a_run(real, node.execute(patcher, 5.0, 0.5, 1.5).args[0], case, positive, negative)
    effect = distance(out, plain)
    their_effect = distance(their_out, plain)
    for model in (guided(patcher, negative, method=nag), node.execute(patcher, 5.0, 0.5, 1.5).args[0]):
        with pytest.raises(CancelledError):
            real.sample(cancelled(model), case, positive, negative)
    assert torch.equal(rows_of_a_run(real, patcher, case, positive, negative)[1], plain), (
        "a cancelled run left something"
    )
    peers(name, **{"rows": ours, "effect": effect, "their rows": theirs, "their effect": their_effect})
    assert ours == rows
    assert effect > 1e-4
    assert theirs == 2 * rows
