"""Torch function modes around attention: those that stand in for it act or are refused, the others are harmless."""

import diffusers
import pytest
import torch
import torch.nn.functional as F
from diffusers.hooks import HookRegistry, LayerSkipConfig
from diffusers.hooks.layer_skip import AttentionProcessorSkipHook
from torch.overrides import TorchFunctionMode

import vsf
from families.harness import call
from families.models import tiny_flux, tiny_unet
from families.models import tiny_per_block_pipelines as beside
from support import tiny_pipelines as tiny

OFF, STRONG = vsf.ValueSignFlip(offset=float("inf")), vsf.ValueSignFlip(scale=2.0, offset=0.1)
PERTURBED = {"skip_attention": False, "skip_ff": False, "skip_attention_scores": True}
ZIMAGE = {case.name: case for case in beside.PIPELINES}["z_image"].settings
BUILDS = {
    "z_image": (beside.zimage_pipeline, ZIMAGE, "layers.1.attention"),
    "flux": (tiny_flux.pipeline, tiny_flux.SETTINGS, "transformer_blocks.1.attn"),
    "flux, one stream": (tiny_flux.pipeline, tiny_flux.SETTINGS, "single_transformer_blocks.0.attn"),
    "sd3": (tiny.sd3, tiny.SETTINGS, "transformer_blocks.0.attn"),
}


class Halved(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        return out / 2 if function is F.scaled_dot_product_attention else out


class HalvedByName(TorchFunctionMode):
    """Does not say which function it changes."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        return out / 2 if getattr(function, "__name__", "").endswith("_product_attention") else out


class Counting(TorchFunctionMode):
    calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", BUILDS)
def test_the_attention_that_perturbed_guidance_skips_is_skipped_in_guided_layers(name):
    build, settings, layer = BUILDS[name]
    pipe = build()
    plain = call(pipe, "a red car", **settings)
    module = pipe.transformer.get_submodule(layer)
    hook = AttentionProcessorSkipHook(None, skip_attention_scores=True)
    HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, "perturbed")
    perturbed = call(pipe, "a red car", **settings)
    assert not torch.equal(perturbed, plain)
    with vsf.guide(pipe, "wheels", method=OFF):
        assert torch.equal(call(pipe, "a red car", **settings), perturbed)
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert not torch.equal(call(pipe, "a red car", **settings), perturbed)


def test_the_guider_of_a_modular_pipeline_perturbs_its_extra_call():
    ordinary = beside.zimage_pipeline()
    pipe = diffusers.modular_pipelines.ZImageAutoBlocks().init_pipeline()
    names = {*pipe.component_names} - {"guider"}
    pipe.update_components(**{name: part for name, part in ordinary.components.items() if name in names})
    config = LayerSkipConfig([0], fqn="layers", **PERTURBED)
    pipe.update_components(
        guider=diffusers.PerturbedAttentionGuidance(guidance_scale=1.0, perturbed_guidance_config=config, start=0.0)
    )

    def draw():
        settings = {"height": 32, "width": 48, "max_sequence_length": 512, "num_inference_steps": 2}
        return pipe(prompt="a red car", generator=torch.Generator().manual_seed(0), output="latents", **settings)

    plain, negative = draw(), vsf.encode(ordinary, "wheels")
    with vsf.guide(pipe, negative=negative, method=OFF):
        assert torch.equal(draw(), plain)
    with vsf.guide(pipe, negative=negative, method=STRONG):
        assert not torch.equal(draw(), plain)


@pytest.mark.parametrize("mode", [Halved, HalvedByName])
@pytest.mark.parametrize("build", [tiny.sd3, tiny_flux.pipeline, tiny_unet.pipeline_xl], ids=["sd3", "flux", "sdxl"])
def test_a_mode_that_replaces_attention_is_refused_by_name(build, mode):
    pipe = build()
    settings = {"height": 8, "width": 8, "num_inference_steps": 1, "output_type": "latent"}
    with (
        vsf.guide(pipe, "wheels"),
        mode(),
        pytest.raises(vsf.UnsupportedAttentionError, match=f"the torch function mode {mode.__name__}"),
    ):
        pipe("a red car", **settings)


def test_other_modes_are_harmless():
    pipe = tiny.sd3()
    with vsf.guide(pipe, "wheels", method=STRONG):
        guided = tiny.call(pipe)
        with torch.device("cpu"), Counting() as counting:
            assert torch.equal(tiny.call(pipe), guided)
    assert counting.calls
