"""FLUX.2 klein and dev from a few thousand random weights."""

from dataclasses import replace
from functools import cache, partial

import diffusers
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from diffusers.models.transformers import transformer_flux2
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from PIL import Image

from families.harness import Case, PipelineCase, Variant, noise, picture, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny


def transformer(**changes):
    sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "joint_attention_dim": 48, "axes_dims_rope": [4, 4, 4, 4]}
    torch.manual_seed(0)
    model = Flux2Transformer2DModel(**{**sizes, **dims, "guidance_embeds": False, **changes})
    return tiny.without_silent_parts(model.eval())


def positions(*sizes):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes))


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 24, 4).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
        "img_ids": positions(1, 4, 6, 1).expand(rows, -1, -1),
        "txt_ids": positions(1, 1, 1, text.shape[1]).expand(rows, -1, -1),
        "guidance": None,
    }


# Of klein KV ------------------------------------------------------------------------------------------------------

REFERENCES = 8  # tokens, in front of the picture's 24


def keeping_transformer():
    """A transformer with the processors that its pipeline gives it."""
    model = transformer()
    for block in model.transformer_blocks:
        block.attn.set_processor(transformer_flux2.Flux2KVAttnProcessor())
    for block in model.single_transformer_blocks:
        block.attn.set_processor(transformer_flux2.Flux2KVParallelSelfAttnProcessor())
    return model


def first_inputs(text):
    """Those of a call that makes keys of the references, which are a picture of two rows."""
    rows = len(text)
    ids = torch.cat([positions(1, 2, 4, 1) + torch.tensor([10, 0, 0, 0]), positions(1, 4, 6, 1)])
    pictures = torch.cat([noise(1, REFERENCES, 4, seed=2), noise(1, 24, 4)], 1)
    changes = {"hidden_states": pictures.expand(rows, -1, -1), "img_ids": ids.expand(rows, -1, -1)}
    return {**inputs(text), **changes, "kv_cache_mode": "extract", "num_ref_tokens": REFERENCES}


@cache
def kept_keys(rows):
    """Keys and values of the references, from a call for another text than those of the tests."""
    with torch.no_grad():
        return keeping_transformer()(**first_inputs(noise(rows, 5, 48, seed=3)), return_dict=False)[1]


def later_inputs(text):
    """Those of a call with keys that are kept."""
    return {**inputs(text), "kv_cache_mode": "cached", "kv_cache": kept_keys(len(text))}


# Pipelines --------------------------------------------------------------------------------------------------------


def autoencoder():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    sizes = {"block_out_channels": (4,), "layers_per_block": 1, "latent_channels": 1, "norm_num_groups": 1}
    return AutoencoderKLFlux2(**blocks, **sizes, sample_size=32, use_quant_conv=False, use_post_quant_conv=False).eval()


def pipeline(cls, model, encoder, **extra):
    parts = {"vae": autoencoder(), "text_encoder": encoder, "tokenizer": chat.tokenizer()}
    return quiet(cls(transformer=model, scheduler=FlowMatchEulerDiscreteScheduler(), **parts, **extra))


@cache
def klein_encoder():
    """As deep as the layers that the pipeline takes its text from; no test changes it."""
    return chat.qwen3(layers=28)


@cache
def dev_encoder():
    return chat.llama(layers=31)


def klein(cls=Flux2KleinPipeline, **extra):
    return pipeline(cls, transformer(), klein_encoder(), **extra)


def dev():
    return pipeline(Flux2Pipeline, transformer(guidance_embeds=True), dev_encoder())


def chatted(pipe, messages, layers, **options):
    """Rows of some layers of the encoder, side by side, for a chat."""
    said = pipe.tokenizer.apply_chat_template(messages, tokenize=False, **options)
    ids = torch.tensor([pipe.tokenizer(said).input_ids])
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
    return torch.cat([states[layer][0] for layer in layers], 1)


def klein_text(pipe, text):
    return chatted(pipe, [{"role": "user", "content": text}], (9, 18, 27), add_generation_prompt=True)


def dev_text(pipe, text):
    messages = [{"role": "system", "content": pipe.system_message}, {"role": "user", "content": text}]
    return chatted(pipe, messages, (10, 20, 30))


def frame(before, after):
    """Which tokens of "ab" are the chat's, with one token per letter and per mark."""
    return [True] * before + [False, False] + [True] * after


SETTINGS = {"height": 8, "width": 12, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}
KEPT = {name: SETTINGS[name] for name in SETTINGS if name != "guidance_scale"} | {"max_sequence_length": 64}
TENSOR, PICTURE = {"image": picture(8, 12)}, {"image": Image.linear_gradient("L").resize((64, 64)).convert("RGB")}
OPENING, ENDING, ANSWER = len("|user\n"), len("|\n"), len("|assistant\n")  # each mark is one token

CASES = [
    Case(
        family="flux2",
        model=transformer,
        inputs=inputs,
        channels=48,
        layers={r"(single_)?transformer_blocks\.\d+\.attn": ("text", "image")},
        grid=(4, 6),
    )
]
for name, called_with in (("first step", first_inputs), ("later steps", later_inputs)):
    kept = {
        "name": f"flux2 klein KV, {name}",
        "model": keeping_transformer,
        "inputs": called_with,
        "layers": {r"(single_)?transformer_blocks\.\d+\.attn": ("text", ("kept", REFERENCES), "image")},
    }
    CASES.append(replace(CASES[0], **kept))

PIPELINES = [
    PipelineCase(
        name="flux2 klein",
        build=klein,
        settings={**SETTINGS, "max_sequence_length": 64},
        text=klein_text,
        special=frame(OPENING, ENDING + ANSWER),
        latents=(4, 4, 6),
        cfg={"guidance_scale": 3.0},
    ),
    PipelineCase(
        name="flux2 klein KV",
        build=partial(klein, diffusers.Flux2KleinKVPipeline),
        settings={**KEPT, **PICTURE},
        text=klein_text,
        special=frame(OPENING, ENDING + ANSWER),
        latents=(4, 4, 6),
    ),
    PipelineCase(
        name="flux2 dev",
        build=dev,
        settings=SETTINGS,
        text=dev_text,
        special=frame(len("|system\n") + len(SYSTEM_MESSAGE) + ENDING + OPENING, ENDING),
    ),
]

SHORT = {**SETTINGS, "max_sequence_length": 64}

VARIANTS = [
    Variant("flux2 klein KV without a reference image", partial(klein, diffusers.Flux2KleinKVPipeline), KEPT),
    Variant("flux2 klein with a reference image", klein, {**SHORT, **PICTURE}),
    Variant("flux2 dev with a reference image", dev, {**SETTINGS, **PICTURE}),
    Variant(
        "Flux2KleinInpaintPipeline",
        partial(klein, diffusers.Flux2KleinInpaintPipeline),
        {**SHORT, **TENSOR, "mask_image": torch.ones(1, 1, 8, 12), "strength": 1.0},
    ),
]
