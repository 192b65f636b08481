"""FLUX.1 from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from transformers import CLIPTextModel

from families.harness import Case, PipelineCase, Variant, noise, picture, quiet
from support import tiny_pipelines as tiny


def transformer(**changes):
    sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32}
    torch.manual_seed(0)
    model = FluxTransformer2DModel(**{**sizes, **dims, "axes_dims_rope": [4, 4, 8], **changes})
    return tiny.without_silent_parts(model.eval())


def image_ids(height, width):
    """(tokens, 3): which picture, row, column."""
    return torch.cartesian_prod(torch.zeros(1), torch.arange(float(height)), torch.arange(float(width)))


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 24, 4).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "pooled_projections": noise(1, 32).expand(rows, -1),
        "timestep": torch.full((rows,), 0.5),
        "img_ids": image_ids(4, 6),
        "txt_ids": torch.zeros(text.shape[1], 3),
    }


def pipeline(cls=FluxPipeline, *, sizes=None, **extra):
    return quiet(
        cls(
            transformer=transformer(**(sizes or {})),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=tiny.autoencoder(1),
            text_encoder=tiny.clip(0, CLIPTextModel, hidden_size=32),
            tokenizer=tiny.clip_tokenizer(),
            text_encoder_2=tiny.t5_encoder(),
            tokenizer_2=tiny.t5_tokenizer(),
            **extra,
        )
    )


def unpadded_t5(pipe, text):
    return pipe.text_encoder_2(torch.tensor([pipe.tokenizer_2(text).input_ids]))[0][0]


SETTINGS = {"height": 8, "width": 12, "num_inference_steps": 2, "max_sequence_length": 24, "output_type": "latent"}

CASES = [
    Case(
        family="flux",
        model=transformer,
        inputs=inputs,
        channels=32,
        layers={r"(single_)?transformer_blocks\.\d+\.attn": ("text", "image")},
        grid=(4, 6),
    )
]

PIPELINES = [
    PipelineCase(
        name="flux",
        build=pipeline,
        settings=SETTINGS,
        text=unpadded_t5,
        special=[False, False, False, True],  # "▁", a, b, end
        encoders=("text_encoder", "text_encoder_2"),
        latents=(24, 4),
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
    )
]


def controlnet():
    sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32}
    torch.manual_seed(0)
    model = diffusers.FluxControlNetModel(**sizes, **dims, axes_dims_rope=[4, 4, 8])
    return tiny.without_silent_parts(model.eval())


def with_controlnet(cls):
    return pipeline(cls, controlnet=controlnet())


def with_image_prompt(cls):
    """A pipeline whose double blocks attend to an IP-Adapter's image tokens too, in a call of their own."""
    pipe = pipeline(cls)
    for block in pipe.transformer.transformer_blocks:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "cross_attention_dim": 24, "num_tokens": (4,), "scale": 0.8}
        block.attn.processor = FluxIPAdapterAttnProcessor(**sizes)
    return pipe


def with_fused_projections(cls):
    pipe = pipeline(cls)
    pipe.transformer.fuse_qkv_projections()
    return pipe


IMAGE, MASK = {"image": picture(8, 12)}, {"mask_image": torch.ones(1, 1, 8, 12)}
CONTROL, FULLY = {"control_image": picture(8, 12)}, {"strength": 1.0}
WIDER = {"in_channels": 8, "out_channels": 4}  # the control image stands beside the latents
FILL = {"in_channels": 12, "out_channels": 4}  # image and mask stand beside the latents
AS_IT_IS = {"max_area": 96, "_auto_resize": False}

MADE = {
    "FluxPipeline": (partial(pipeline, sizes={"guidance_embeds": True}), {}),
    "FluxPipeline with an IP-Adapter": (
        with_image_prompt,
        {"joint_attention_kwargs": {"ip_hidden_states": [noise(1, 4, 24)]}},
    ),
    "FluxPipeline with fused projections": (with_fused_projections, {}),
    "FluxImg2ImgPipeline": (pipeline, {**IMAGE, **FULLY}),
    "FluxInpaintPipeline": (pipeline, {**IMAGE, **MASK, **FULLY}),
    "FluxKontextPipeline": (pipeline, {**IMAGE, **AS_IT_IS}),
    "FluxKontextInpaintPipeline": (pipeline, {**IMAGE, **MASK, **FULLY, **AS_IT_IS}),
    "FluxFillPipeline": (partial(pipeline, sizes=FILL), {**IMAGE, **MASK, **FULLY}),
    "FluxControlPipeline": (partial(pipeline, sizes=WIDER), CONTROL),
    "FluxControlImg2ImgPipeline": (partial(pipeline, sizes=WIDER), {**IMAGE, **CONTROL, **FULLY}),
    "FluxControlInpaintPipeline": (partial(pipeline, sizes=WIDER), {**IMAGE, **CONTROL, **MASK, **FULLY}),
    "FluxControlNetPipeline": (with_controlnet, CONTROL),
    "FluxControlNetImg2ImgPipeline": (with_controlnet, {**IMAGE, **CONTROL, **FULLY}),
    "FluxControlNetInpaintPipeline": (with_controlnet, {**IMAGE, **CONTROL, **MASK, **FULLY}),
}

VARIANTS = [
    Variant(name, partial(build, getattr(diffusers, name.split()[0])), {**SETTINGS, **settings})
    for name, (build, settings) in MADE.items()
]
