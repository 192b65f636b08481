"""The families that are shaped as FLUX.1 is, from a few thousand random weights."""

from functools import partial

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_flux import image_ids
from families.models.tiny_wan import autoencoder as wan_autoencoder
from support import host
from support import tiny_pipelines as tiny


def built(cls, **changes):
    sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 4, 8]}
    torch.manual_seed(0)
    return tiny.without_silent_parts(cls(**{**sizes, **dims, **changes}).eval())


def inputs(text, *, first=(0.0, 0.0, 0.0), counting=()):
    """The image's first token stands at `first`; the axes in `counting` count the text's tokens."""
    rows, tokens, _ = text.shape
    places = torch.zeros(tokens, 3)
    places[:, list(counting)] = torch.arange(float(tokens))[:, None]
    return {
        "hidden_states": noise(1, 24, 4).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
        "img_ids": image_ids(4, 6) + torch.tensor(first),
        "txt_ids": places,
    }


def piped(cls, model, **parts):
    parts = {"vae": tiny.autoencoder(1), "scheduler": FlowMatchEulerDiscreteScheduler(), **parts}
    return quiet(cls(transformer=model, **parts))


# Ovis -------------------------------------------------------------------------------------------------------------

OVIS_FRAME = "<|im_start|>user\nDescribe the image by detailing the color, quantity, text, shape, size, texture, "
OVIS_FRAME += "spatial relationships of the objects and background: "


def ovis():
    return built(host.OvisImageTransformer2DModel, joint_attention_dim=16, out_channels=4)


def ovis_pipeline():
    parts = {"text_encoder": chat.qwen3(), "tokenizer": chat.tokenizer(OVIS_FRAME, 28)}
    return piped(host.OvisImagePipeline, ovis(), **parts)


def read_by_ovis(pipe, text):
    ids = pipe.tokenizer(f"{OVIS_FRAME}{text}<|im_end|>\n<|im_start|>assistant\n").input_ids
    return pipe.text_encoder(torch.tensor([ids]))[0][0, 28:]


# LongCat ----------------------------------------------------------------------------------------------------------


def longcat(**changes):
    return built(host.LongCatImageTransformer2DModel, joint_attention_dim=16, **changes)


def longcat_pipeline():
    parts = {"text_encoder": chat.qwen25_vl(), "tokenizer": chat.tokenizer(), "text_processor": None}
    pipe = piped(host.LongCatImagePipeline, longcat(in_channels=64), **parts, vae=tiny.autoencoder(16))
    pipe.tokenizer_max_length = 24
    return pipe


def read_by_longcat(pipe, text):
    frame = pipe.tokenizer(pipe.prompt_template_encode_prefix).input_ids
    ids = torch.tensor([frame + pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-1][0, len(frame) :]


# Bria -------------------------------------------------------------------------------------------------------------


def bria():
    return built(host.BriaTransformer2DModel)


def bria_pipeline():
    parts = {"text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer()}
    return piped(host.BriaPipeline, bria(), **parts)


def read_by_t5(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


# FIBO -------------------------------------------------------------------------------------------------------------

BLOCKS = 4  # each gets a layer of the text


def fibo(**changes):
    return built(host.BriaFiboTransformer2DModel, text_encoder_dim=16, **changes)


def fibo_inputs(text):
    """What a text has beyond ten tokens is filling."""
    rows, tokens, _ = text.shape
    first, *layers = text.split([32, *[16] * BLOCKS], -1)
    seen = torch.cat([torch.arange(tokens) < 10, torch.ones(24, dtype=torch.bool)])
    mask = {"joint_attention_kwargs": {"attention_mask": seen.expand(rows, 1, 1, -1)}}
    return {**inputs(first), "text_encoder_layers": layers, **mask}


def fibo_pipeline(layers=5, name="BriaFiboPipeline"):
    parts = {"text_encoder": chat.llama(layers=layers), "tokenizer": chat.tokenizer(), "vae": wan_autoencoder()}
    return piped(getattr(host, name), fibo(in_channels=16), **parts)


def read_by_fibo(pipe, text):
    """The last two layers, then one for each block, the last one again where the encoder has fewer."""
    states = pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]), output_hidden_states=True).hidden_states
    layers = [*states[-BLOCKS:], *[states[-1]] * (BLOCKS - len(states))]
    return torch.cat([states[-1], states[-2], *layers], -1)[0]


STEPS = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0, "height": 8, "width": 12}
FIBO = {**STEPS, "height": 32, "width": 48}
CFG = {"guidance_scale": 3.0, "negative_prompt": "ugly"}
LAYERS = {r"(single_)?transformer_blocks\.\d+\.attn": ("text", "image")}

CASES = [
    Case("ovis", ovis, partial(inputs, counting=(1, 2)), 16, LAYERS, (4, 6)),
    Case("longcat", longcat, partial(inputs, counting=(1, 2), first=(1, 512, 512)), 16, LAYERS, (4, 6)),
    Case("bria", bria, inputs, 32, LAYERS, (4, 6)),
    Case("fibo", fibo, fibo_inputs, 32 + BLOCKS * 16, LAYERS, (4, 6)),
]

PIPELINES = [
    PipelineCase(
        name="ovis",
        build=ovis_pipeline,
        settings={**STEPS, "max_sequence_length": 64},
        text=read_by_ovis,
        special=[False, False] + [True] * len("|\n|assistant\n"),
        compiles_once=False,
        latents=(24, 4),
        cfg=CFG,
    ),
    PipelineCase(
        name="longcat",
        build=longcat_pipeline,
        settings={**STEPS, "enable_prompt_rewrite": False},
        text=read_by_longcat,
        special=[False, False],
        knows_characters=False,
        latents=(24, 64),
        cfg=CFG,
    ),
    PipelineCase(
        name="bria",
        build=bria_pipeline,
        settings={**STEPS, "max_sequence_length": 24},
        text=read_by_t5,
        special=[False, False, False, True],  # "▁", a, b, end
        knows_characters=False,
        latents=(24, 4),
        cfg=CFG,
        unconditional=(True, False),
    ),
    PipelineCase(
        name="fibo",
        build=fibo_pipeline,
        settings=FIBO,
        text=read_by_fibo,
        special=[False, False],
        cfg=CFG,
        unconditional=(True, False),
    ),
]

VARIANTS = [
    Variant(
        "BriaFiboEditPipeline",
        partial(fibo_pipeline, name="BriaFiboEditPipeline"),
        {**STEPS, "height": 32, "width": 64, "image": Image.new("RGB", (64, 32), (200, 30, 30))},
        prompt='{"edit_instruction": "a red car"}',
    )
]
