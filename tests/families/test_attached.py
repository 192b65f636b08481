"""What a host does to a pipeline while it is attached: everything goes on, and nothing is left when it is detached."""

import copy

import diffusers
import pytest
import torch
from diffusers.models import attention_dispatch
from safetensors.torch import save_file

import vsf
from families.models import tiny_flux
from support import tiny_pipelines as tiny
from vsf.families import find_family

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)


@pytest.fixture
def pipe():
    return tiny.sd3(qk_norm=None, dual_attention_layers=())


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def guided(pipe):
    with vsf.guide(pipe, "wheels", method=STRONG):
        return tiny.call(pipe)


def attached(pipe):
    return tiny.call(pipe, negative_prompt="wheels")


@pytest.fixture
def lora(tmp_path):
    generator, weights = torch.Generator().manual_seed(5), {}
    for block in range(2):
        for name in ("to_q", "to_v", "add_k_proj", "add_v_proj"):
            key = f"transformer.transformer_blocks.{block}.attn.{name}"
            weights[f"{key}.lora_A.weight"] = 0.3 * torch.randn(2, 32, generator=generator)
            weights[f"{key}.lora_B.weight"] = 0.3 * torch.randn(32, 2, generator=generator)
    save_file(weights, tmp_path / "lora.safetensors")
    return tmp_path


def test_a_lora_is_loaded_fused_unfused_and_unloaded(pipe, lora):
    base = guided(pipe)
    vsf.attach(pipe, method=STRONG)
    pipe.load_lora_weights(lora, weight_name="lora.safetensors")
    loaded = attached(pipe)
    assert difference(loaded, base) > 1e-3
    pipe.fuse_lora()
    assert difference(attached(pipe), loaded) <= 1e-5
    pipe.unfuse_lora()
    assert difference(attached(pipe), loaded) <= 1e-5
    vsf.detach(pipe)
    assert difference(guided(pipe), loaded) <= 1e-5
    vsf.attach(pipe, method=STRONG)
    pipe.unload_lora_weights()
    assert difference(attached(pipe), base) <= 1e-5


def test_projections_are_fused_and_unfused(pipe):
    base = guided(pipe)
    vsf.attach(pipe, method=STRONG)
    pipe.transformer.fuse_qkv_projections()
    assert difference(attached(pipe), base) <= 1e-5
    pipe.transformer.unfuse_qkv_projections()
    assert torch.equal(attached(pipe), base)


def test_a_pipeline_moves_and_comes_back(pipe):
    base = guided(pipe)
    vsf.attach(pipe, method=STRONG)
    pipe.to(torch.float64)
    assert attached(pipe).dtype == torch.float64
    pipe.to(torch.float32)
    assert torch.equal(attached(pipe), base)


def test_what_is_saved_is_the_plain_pipeline(pipe, tmp_path):
    plain = tiny.call(pipe)
    vsf.attach(pipe, method=STRONG)
    pipe.save_pretrained(tmp_path)
    again = diffusers.StableDiffusion3Pipeline.from_pretrained(tmp_path, dtype=torch.float32)
    again.set_progress_bar_config(disable=True)
    assert type(again) is diffusers.StableDiffusion3Pipeline
    assert difference(tiny.call(again), plain) <= 1e-6
    assert difference(tiny.call(again, negative_prompt="wheels"), plain) <= 1e-6


def test_a_copy_is_unguided(pipe):
    plain = tiny.call(pipe)
    vsf.attach(pipe, method=STRONG)
    twin = copy.deepcopy(pipe)
    assert torch.equal(tiny.call(twin, negative_prompt="wheels"), plain)
    assert difference(attached(pipe), plain) > 1e-3


def test_attaching_again_takes_the_new_method_schedule_and_mask(pipe):
    plain = tiny.call(pipe)
    report = vsf.attach(pipe, method="nag")
    assert vsf.attach(pipe, method=STRONG, mask=(0, 0, 0.5, 1), schedule=vsf.Schedule(layers=[1])) is report
    twin, where = copy.deepcopy(pipe), {"mask": (0, 0, 0.5, 1), "schedule": vsf.Schedule(layers=[1])}
    with vsf.guide(twin, "wheels", method=STRONG, **where):
        expected = tiny.call(twin)
    assert torch.equal(attached(pipe), expected)
    with pytest.raises(vsf.KnobError, match="layer 9"):
        vsf.attach(pipe, method=STRONG, schedule=vsf.Schedule(layers=[9]))
    assert torch.equal(attached(pipe), expected)
    assert "scale=2.0" in report.method
    vsf.detach(pipe)
    assert torch.equal(tiny.call(pipe), plain)


def test_another_attention_backend_is_taken_over_and_given_back(monkeypatch):
    registry = attention_dispatch._AttentionBackendRegistry
    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # the host sets it for every model
    pipe = tiny_flux.pipeline()
    settings = {**tiny.SETTINGS, "num_inference_steps": 1}
    generator = torch.Generator

    def run(**more):
        return pipe(prompt="a red car", generator=generator().manual_seed(0), **settings, **more)[0]

    assert find_family(pipe).name == "flux"
    with vsf.guide(pipe, "wheels", method=STRONG):
        base = run()
    vsf.attach(pipe, method=STRONG)
    pipe.transformer.set_attention_backend("_native_math")
    assert difference(run(negative_prompt="wheels"), base) <= 1e-5
    vsf.detach(pipe)
    backends = {processor._attention_backend for processor in pipe.transformer.attn_processors.values()}
    assert len(backends) == 1
    assert None not in backends
