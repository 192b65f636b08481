"""Qwen-Image from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from families.harness import Case, PipelineCase, Variant, noise, picture, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny


def transformer(**changes):
    sizes = {"patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 3, "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4)}
    torch.manual_seed(0)
    return tiny.without_silent_parts(QwenImageTransformer2DModel(**{**sizes, **dims, **changes}).eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 24, 16).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": None,
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [(1, 4, 6)] * rows,
    }


def masked_inputs(text):
    """What a text has beyond ten tokens is padding."""
    mask = (torch.arange(text.shape[1]) < 10).long().expand(len(text), -1)
    return {**inputs(text), "encoder_hidden_states_mask": mask}


def autoencoder():
    torch.manual_seed(0)
    sizes = {"base_dim": 24, "z_dim": 4, "dim_mult": [1, 2, 4], "num_res_blocks": 1}
    return AutoencoderKLQwenImage(
        **sizes,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def pipeline(cls=QwenImagePipeline, *, model=None, **extra):
    pipe = cls(
        transformer=transformer() if model is None else model,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(),
        text_encoder=chat.qwen25_vl(),
        tokenizer=chat.tokenizer(),
        **extra,
    )
    prefix, _, _ = pipe.prompt_template_encode.partition("<|im_start|>user\n")
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(prefix + "<|im_start|>user\n").input_ids)
    return quiet(pipe)


def unpadded(pipe, text):
    ids = torch.tensor([pipe.tokenizer(pipe.prompt_template_encode.format(text)).input_ids])
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-1]
    return states[0, pipe.prompt_template_encode_start_idx :]


SETTINGS = {"height": 16, "width": 24, "num_inference_steps": 2, "output_type": "latent", "true_cfg_scale": 1.0}
FRAME = len("|\n|assistant\n")  # the end of the template, with one token per letter and per mark
LAYERS = {r"transformer_blocks\.\d+\.attn": ("text", "image")}

CASES = [
    Case("qwen_image", transformer, inputs, 16, LAYERS, (4, 6)),
    Case("qwen_image", transformer, masked_inputs, 16, LAYERS, (4, 6), name="qwen_image masked"),
]

PIPELINES = [
    PipelineCase(
        name="qwen_image",
        build=pipeline,
        settings=SETTINGS,
        text=unpadded,
        special=[False, False] + [True] * FRAME,
        compiles_once=False,
        latents=(6, 16),
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
        prompts=("a red car", "two  dogs"),  # of one length: the pipeline treats others otherwise in a batch than alone
    )
]


def with_controlnet(cls, **changes):
    sizes = {"patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 1, "attention_head_dim": 16}
    dims = {"num_attention_heads": 3, "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4)}
    torch.manual_seed(0)
    model = diffusers.QwenImageControlNetModel(**sizes, **dims, **changes).eval()
    return pipeline(cls, controlnet=tiny.without_silent_parts(model))


IMAGE, MASK = {"image": picture(16, 24)}, {"mask_image": torch.ones(1, 1, 16, 24)}
CONTROL, CONTROL_MASK = {"control_image": picture(16, 24)}, {"control_mask": torch.ones(1, 1, 16, 24)}

MADE = {
    "QwenImageImg2ImgPipeline": (pipeline, {**IMAGE, "strength": 1.0}),
    "QwenImageInpaintPipeline": (pipeline, {**IMAGE, **MASK, "strength": 1.0}),
    "QwenImageControlNetPipeline": (with_controlnet, CONTROL),
    "QwenImageControlNetInpaintPipeline": (
        partial(with_controlnet, extra_condition_channels=4),
        {**CONTROL, **CONTROL_MASK},
    ),
}

VARIANTS = [
    Variant(name, partial(build, getattr(diffusers, name)), {**SETTINGS, **settings})
    for name, (build, settings) in MADE.items()
]
