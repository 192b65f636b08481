"""A negative prompt is read like the prompt: the same layer of CLIP, the same weight of LoRAs, the same cleaning."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import CLIPTextModel

import vsf
from families.harness import call, difference
from families.models import tiny_flux, tiny_masked, tiny_unet
from support import tiny_pipelines as tiny
from vsf.families.base.reading import encoding_options

STRONG = vsf.ValueSignFlip(scale=3)


@dataclass(frozen=True)
class Kind:
    """One kind of pipeline: `encoder` takes the LoRA, whose weight the call takes in `weights`."""

    build: Callable[[], Any]
    settings: Mapping[str, Any]
    encoder: str
    targets: tuple[str, ...]
    weights: str

    def with_lora(self):
        pipe = self.build()
        torch.manual_seed(0)
        config = LoraConfig(r=4, lora_alpha=32, target_modules=list(self.targets), init_lora_weights=False)
        getattr(pipe, self.encoder).add_adapter(config)
        return pipe

    def run(self, pipe, **settings):
        return call(pipe, "a red car", **{**self.settings, **settings})


CLIP = ("q_proj", "v_proj", "fc1")
KINDS = {
    "stable diffusion": Kind(tiny_unet.pipeline, tiny_unet.SETTINGS, "text_encoder", CLIP, "cross_attention_kwargs"),
    "sdxl": Kind(tiny_unet.pipeline_xl, tiny_unet.SETTINGS, "text_encoder_2", CLIP, "cross_attention_kwargs"),
    "sd3": Kind(tiny.sd3, tiny.SETTINGS, "text_encoder", CLIP, "joint_attention_kwargs"),
    "flux": Kind(tiny_flux.pipeline, tiny_flux.SETTINGS, "text_encoder_2", ("q", "v"), "joint_attention_kwargs"),
}
SKIPPING = ("stable diffusion", "sdxl", "sd3")


@pytest.fixture(autouse=True)
def where_diffusers_looks_for_the_norm(monkeypatch):
    """Newer transformers keep it in the model itself, diffusers 0.42 looks one level deeper with `clip_skip`."""
    if not hasattr(tiny.clip(0, CLIPTextModel), "text_model"):
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda model: model), raising=False)


def clip_rows(encoder, tokenizer, text, layer):
    """The rows of one layer of CLIP for a text without padding, before the last norm."""
    ids = torch.tensor([tokenizer(text).input_ids])
    return encoder(ids, output_hidden_states=True).hidden_states[layer][0]


def skipped(pipe, name):
    """What the encoders make of "ab" when one layer more is skipped, called without the pipeline."""
    if name == "stable diffusion":
        norm = getattr(pipe.text_encoder, "final_layer_norm", None) or pipe.text_encoder.text_model.final_layer_norm
        return norm(clip_rows(pipe.text_encoder, pipe.tokenizer, "ab", -2))
    pairs = ((pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2))
    return torch.cat([clip_rows(encoder, tokenizer, "ab", -3) for encoder, tokenizer in pairs], -1)


@pytest.mark.parametrize("name", SKIPPING)
@torch.no_grad()
def test_clip_skip_reads_another_layer(name):
    pipe = KINDS[name].build()
    negative, expected = vsf.encode(pipe, "ab", clip_skip=1), skipped(pipe, name)
    rows = negative.embeddings[0][: len(expected), : expected.shape[1]]
    assert difference(rows, expected) <= 1e-5
    plain = vsf.encode(pipe, "ab").embeddings[0][: len(expected), : expected.shape[1]]
    assert difference(plain, expected) > 1e-3


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_weight_of_a_lora_is_that_of_its_layers(name):
    kind = KINDS[name]
    pipe = kind.with_lora()
    weaker = copy.deepcopy(pipe)
    for module in getattr(weaker, kind.encoder).modules():
        if hasattr(module, "lora_B"):
            module.lora_B["default"].weight.mul_(0.2)
    expected = vsf.encode(weaker, "ab").embeddings[0]
    assert difference(vsf.encode(pipe, "ab", lora_scale=0.2).embeddings[0], expected) <= 1e-5
    in_full = vsf.encode(pipe, "ab").embeddings[0]
    assert difference(in_full, expected) > 1e-3
    assert difference(vsf.encode(pipe, "ab", lora_scale=1.0).embeddings[0], in_full) <= 1e-6


def options_of(name):
    """Arguments of a call that change how it reads its prompt, and the same as options of `vsf.guide`."""
    arguments, options = {KINDS[name].weights: {"scale": 0.2}}, {"lora_scale": 0.2}
    return (arguments | {"clip_skip": 1}, options | {"clip_skip": 1}) if name in SKIPPING else (arguments, options)


@pytest.mark.parametrize("name", KINDS)
def test_an_attached_pipeline_reads_both_prompts_alike(name):
    kind, (arguments, options) = KINDS[name], options_of(name)
    pipe = kind.with_lora()
    with vsf.guide(pipe, "wheels", method=STRONG, **options):
        guided = kind.run(pipe, **arguments)
    alike, other = vsf.encode(pipe, "wheels", **options), vsf.encode(pipe, "wheels")
    with vsf.guide(pipe, negative=vsf.Negative(other.embeddings), method=STRONG):
        read_otherwise = kind.run(pipe, **arguments)
    vsf.attach(pipe, method=STRONG)
    attached = kind.run(pipe, negative_prompt="wheels", **arguments)
    handed_over = kind.run(pipe, negative_prompt=alike, **arguments)
    with pytest.raises(vsf.PromptError, match="this call reads its prompt with"):
        kind.run(pipe, negative_prompt=other, **arguments)
    vsf.detach(pipe)
    assert difference(attached, guided) <= 1e-6
    assert difference(handed_over, guided) <= 1e-6
    assert difference(read_otherwise, guided) > 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_a_call_that_reads_its_prompt_otherwise_is_refused_with_what_to_give(name):
    kind, (arguments, options) = KINDS[name], options_of(name)
    pipe = kind.with_lora()
    plain = kind.run(pipe)
    for given, called in (({}, arguments), (options, {})):
        with (
            vsf.guide(pipe, "wheels", **given),
            pytest.raises(vsf.PromptError, match=r"this call reads .* give vsf\.guide, or vsf\.encode, .*lora_scale="),
        ):
            kind.run(pipe, **called)
    assert difference(kind.run(pipe), plain) <= 1e-6


@pytest.mark.parametrize("name", KINDS)
def test_a_weight_for_the_denoisers_loras_alone_does_not_concern_the_negative(name):
    kind = KINDS[name]
    pipe = kind.build()
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        kind.run(pipe, **{kind.weights: {"scale": 0.2}})
    assert report.steps == 2


def test_prompts_given_as_embeddings_are_not_compared():
    pipe = tiny_unet.pipeline()
    with torch.no_grad():
        embeddings, _ = pipe.encode_prompt("a red car", "cpu", 1, False, clip_skip=1)
    with vsf.guide(pipe, "wheels") as report:
        call(pipe, None, **{**tiny_unet.SETTINGS, "prompt_embeds": embeddings, "clip_skip": 1})
    assert report.steps == 2


def test_cleaning_is_that_of_the_call():
    pipe = tiny_masked.pixart_pipeline()
    assert encoding_options(pipe, {}) == {"clean_caption": True}
    with (
        vsf.guide(pipe, "wheels"),
        pytest.raises(vsf.PromptError, match=r"with clean_caption=False, but .* with clean_caption=True"),
    ):
        call(pipe, "a red car", **{**tiny_masked.PIXART, "clean_caption": False})
    with vsf.guide(pipe, "wheels", clean_caption=False) as report:
        call(pipe, "a red car", **{**tiny_masked.PIXART, "clean_caption": False})
    assert report.steps == 2


def test_an_option_that_a_pipeline_does_not_hand_on_is_refused():
    with pytest.raises(vsf.PromptError, match="FluxPipeline reads its prompt with lora_scale, not with clip_skip=: le"):
        vsf.encode(tiny_flux.pipeline(), "ab", clip_skip=1)
    with pytest.raises(vsf.PromptError, match="reads its prompt with clip_skip, lora_scale, not with layer=: leave it"):
        vsf.encode(tiny.sd3(), "ab", layer=1)


def test_a_pipeline_that_keeps_the_weight_for_its_denoiser_is_known():
    """The call of `StableDiffusion3InpaintPipeline` does not hand it on, although its `encode_prompt` would take it."""
    from diffusers import StableDiffusion3InpaintPipeline

    pipe = tiny.sd3(StableDiffusion3InpaintPipeline)
    assert encoding_options(pipe, {"clip_skip": 1, "joint_attention_kwargs": {"scale": 0.2}}) == {"clip_skip": 1}
    with pytest.raises(vsf.PromptError, match="with clip_skip, not with lora_scale="):
        vsf.encode(pipe, "ab", lora_scale=0.2)


def test_options_belong_to_texts():
    pipe = tiny.sd3()
    negative = vsf.encode(pipe, "wheels")
    with pytest.raises(vsf.PromptError, match=r"give clip_skip= to vsf\.encode"):
        vsf.guide(pipe, negative=negative, clip_skip=1).__enter__()


@pytest.mark.parametrize("name", KINDS)
def test_weighing_words_and_contexts_leave_loras_as_heavy_as_they_were(name):
    kind, (arguments, options) = KINDS[name], options_of(name)
    pipe = kind.with_lora()
    layers = [module for module in getattr(pipe, kind.encoder).modules() if hasattr(module, "scale_layer")]
    before = [dict(layer.scaling) for layer in layers]
    vsf.encode(pipe, "wheels", within="a red car with {}", **options)
    with vsf.guide(pipe, vsf.Prompt.parse("a (red:2) car (wheels:-1)"), **options):
        pass
    vsf.attach(pipe)
    call(pipe, vsf.Prompt.parse("a (red:2) car (wheels:-1)"), **{**kind.settings, **arguments})
    vsf.detach(pipe)
    assert len(layers) > 2
    for layer, scaling in zip(layers, before, strict=True):
        assert layer.scaling == pytest.approx(scaling)


def test_reading_leaves_nothing_behind():
    pipe = KINDS["sd3"].with_lora()
    host = type(pipe)
    vsf.encode(pipe, "ab", clip_skip=1, lora_scale=0.2)
    with pytest.raises(IndexError):
        vsf.encode(pipe, "ab", clip_skip=50)
    assert type(pipe) is host
    assert "encode_prompt" not in vars(pipe)
